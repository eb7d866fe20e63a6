/*
 * Pseudo-terminals with both sides inside: settings, what waits in both directions, flow, locks, packet mode; slaves that
 * were closed, that nobody opened, and whose master was closed; and a session on one, with its foreground.
 */
#include "victim.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

/* struct termios2, which the C library does not have beside its own. */
struct settings {
	unsigned iflag, oflag, cflag, lflag;
	unsigned char line, cc[19];
	unsigned ispeed, ospeed;
};
#define GET _IOR('T', 0x2A, struct settings)
#define SET _IOW('T', 0x2B, struct settings)
enum { ISIG_ = 1, ICANON_ = 2, ECHO_ = 8, IXON_ = 0x400, BOTHER_ = 0x1000, CBAUD_ = 0x100f };
enum { VINTR_ = 0, VMIN_ = 6 };

struct pty {
	int master, slave, index;
};

/*
 * Numbers that others are not likely to take while this is being restored: the kernel gives the lowest that is free, so
 * those below are held meanwhile.
 */
static int open_master(int *index)
{
	static int wanted;
	int held[700], count = 0, fd;
	if (!wanted)
		wanted = 64 + getpid() * 11 % 500;
	for (;;) {
		fd = MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY));
		MUST(ioctl(fd, TIOCGPTN, index));
		if (*index >= wanted || count == 700)
			break;
		held[count++] = fd;
	}
	int low = MUST(fcntl(fd, F_DUPFD, 0));
	while (count)
		close(held[--count]);
	int lowest = MUST(fcntl(fd, F_DUPFD, 0));
	close(fd);
	close(low);
	wanted = *index + 1;
	return lowest;
}

static struct pty open_pair(void)
{
	struct pty pty;
	int off = 0;
	pty.master = open_master(&pty.index);
	MUST(ioctl(pty.master, TIOCSPTLCK, &off));
	pty.slave = MUST(ioctl(pty.master, TIOCGPTPEER, O_RDWR | O_NOCTTY));
	return pty;
}

static struct settings change(int fd, unsigned set, unsigned clear)
{
	struct settings now;
	MUST(ioctl(fd, GET, &now));
	now.lflag = (now.lflag | set) & ~clear;
	MUST(ioctl(fd, SET, &now));
	return now;
}

static void put(int fd, const void *bytes, int count)
{
	CHECK(write(fd, bytes, count) == count, "set-up: a write to %d", fd);
}

/* What one read gives, which must not wait. */
static void expect(int fd, const void *bytes, int count, const char *what)
{
	char got[8192];
	struct pollfd polled = {fd, POLLIN, 0};
	CHECK(poll(&polled, 1, 5000) == 1 && polled.revents & POLLIN, "%s: nothing to read", what);
	int length = read(fd, got, sizeof got);
	CHECK(length == count, "%s: %d bytes, wanted %d", what, length, count);
	CHECK(!memcmp(got, bytes, count), "%s: other bytes: %.*s", what, length, got);
}

static void expect_nothing(int fd, const char *what)
{
	struct pollfd polled = {fd, POLLIN, 0};
	CHECK(poll(&polled, 1, 0) == 0, "%s: something to read, %x", what, polled.revents);
}

static int sends(int fd)
{
	struct pollfd polled = {fd, POLLOUT, 0};
	poll(&polled, 1, 0);
	return polled.revents & POLLOUT;
}

static struct pty lines, bytes, stopped, held, packets, closed, gone;
static int lonely, lonely_index;
static struct settings of_lines, of_bytes;
static unsigned char all_bytes[600];

static void settle(int fd)
{
	/* The line discipline works later, and a look waits for it. */
	struct pollfd polled = {fd, POLLIN, 0};
	for (int round = 0; round < 50; round++) {
		poll(&polled, 1, 0);
		usleep(2000);
	}
}

static void set_up(void)
{
	lines = open_pair();
	of_lines = change(lines.slave, 0, ECHO_);
	of_lines.cflag = (of_lines.cflag & ~(unsigned)CBAUD_) | BOTHER_;
	of_lines.ospeed = 12345;
	of_lines.ispeed = 12345;
	of_lines.cc[VINTR_] = 7;
	MUST(ioctl(lines.slave, SET, &of_lines));
	MUST(ioctl(lines.slave, GET, &of_lines));
	struct settings locked = {.lflag = ECHO_};
	MUST(ioctl(lines.slave, TIOCSLCKTRMIOS, &locked));
	struct winsize size = {33, 44, 55, 66};
	MUST(ioctl(lines.master, TIOCSWINSZ, &size));
	/* A line, one with a quoted end of line and a quoted stop, an end of file, a half line. */
	put(lines.master, "one\na\026\nb\026\023\n\004half", 16);
	settle(lines.slave);
	put(lines.slave, "answer\n", 7);
	MUST(fcntl(lines.master, F_SETFL, O_NONBLOCK));
	MUST(fcntl(lines.slave, F_SETOWN, getpid()));

	bytes = open_pair();
	of_bytes = change(bytes.slave, 0, ECHO_ | ICANON_ | ISIG_);
	of_bytes.iflag = 0;
	of_bytes.oflag = 0;
	of_bytes.cc[VMIN_] = 3;
	MUST(ioctl(bytes.slave, SET, &of_bytes));
	MUST(ioctl(bytes.slave, TIOCEXCL));
	for (int byte = 0; byte < 600; byte++)
		all_bytes[byte] = byte * 7;
	put(bytes.master, all_bytes, 600);
	put(bytes.slave, all_bytes, 600);
	settle(bytes.slave);

	stopped = open_pair();
	change(stopped.slave, 0, ECHO_);
	put(stopped.slave, "before\n", 7);
	put(stopped.master, "\023", 1);
	settle(stopped.slave);
	CHECK(!sends(stopped.slave), "set-up: it is not stopped");
	held = open_pair();
	MUST(ioctl(held.slave, TCXONC, TCOOFF));

	packets = open_pair();
	int on = 1;
	MUST(ioctl(packets.master, TIOCPKT, &on));
	put(packets.slave, "data\n", 5);
	MUST(ioctl(packets.slave, TCXONC, TCOOFF));

	MUST(fchown(packets.slave, 13333, 44444));
	MUST(fchmod(packets.slave, 0640));

	closed = open_pair();
	change(closed.slave, 0, ECHO_);
	put(closed.master, "for nobody\n", 11);
	settle(closed.slave);
	close(closed.slave);
	lonely = open_master(&lonely_index);
	gone = open_pair();
	close(gone.master);
}

static void check_settings(void)
{
	struct settings now;
	MUST(ioctl(lines.slave, GET, &now));
	CHECK(!memcmp(&now, &of_lines, sizeof now), "settings: %x %x %x %x speed %u", now.iflag, now.oflag, now.cflag,
	      now.lflag, now.ospeed);
	struct settings locked = {0};
	MUST(ioctl(lines.slave, TIOCGLCKTRMIOS, &locked));
	CHECK(locked.lflag == ECHO_, "locked settings: %x", locked.lflag);
	MUST(ioctl(bytes.slave, GET, &now));
	CHECK(!memcmp(&now, &of_bytes, sizeof now), "settings of the second");
	struct winsize size;
	MUST(ioctl(lines.slave, TIOCGWINSZ, &size));
	CHECK(size.ws_row == 33 && size.ws_col == 44 && size.ws_xpixel == 55 && size.ws_ypixel == 66, "window size");
	int answer = 0;
	MUST(ioctl(lines.master, TIOCGPTN, &answer));
	CHECK(answer == lines.index, "index %d, wanted %d", answer, lines.index);
	char path[32], link[64] = "";
	snprintf(path, sizeof path, "/proc/self/fd/%d", lines.slave);
	MUST(readlink(path, link, sizeof link - 1));
	snprintf(path, sizeof path, "/dev/pts/%d", lines.index);
	CHECK(!strcmp(link, path), "the slave is %s", link);
	MUST(ioctl(bytes.slave, TIOCGEXCL, &answer));
	CHECK(answer, "it is not exclusive any more");
	MUST(ioctl(bytes.master, TIOCGEXCL, &answer));
	CHECK(!answer, "the master is exclusive");
	struct stat node;
	MUST(fstat(packets.slave, &node));
	CHECK(node.st_uid == 13333 && node.st_gid == 44444 && (node.st_mode & 07777) == 0640, "owner %u:%u, mode %o",
	      node.st_uid, node.st_gid, node.st_mode);
	CHECK(fcntl(lines.master, F_GETFL) & O_NONBLOCK, "the master waits");
	CHECK(!(fcntl(lines.slave, F_GETFL) & O_NONBLOCK), "the slave does not wait");
	CHECK(fcntl(lines.slave, F_GETOWN) == getpid(), "its owner");
}

static void check_content(void)
{
	expect(lines.slave, "one\n", 4, "first line");
	expect(lines.slave, "a\nb\023\n", 5, "quoted line");
	expect(lines.slave, "", 0, "end of file");
	expect_nothing(lines.slave, "half a line");
	put(lines.master, "way\n", 4);
	expect(lines.slave, "halfway\n", 8, "the rest of it");
	expect(lines.master, "answer\r\n", 8, "answer");
	expect_nothing(lines.master, "echo");

	expect(bytes.slave, all_bytes, 600, "input in bytes");
	expect(bytes.master, all_bytes, 600, "output in bytes");

	expect(stopped.master, "before\r\n", 8, "before it was stopped");
	CHECK(!sends(stopped.slave), "it is not stopped any more");
	MUST(ioctl(stopped.slave, TCXONC, TCOON));
	CHECK(!sends(stopped.slave), "it was started by what had not stopped it");
	put(stopped.master, "\021", 1);
	for (int round = 0; round < 1000 && !sends(stopped.slave); round++) {
		expect_nothing(stopped.slave, "a start character");
		usleep(2000);
	}
	CHECK(sends(stopped.slave), "its start character does not start it");
	CHECK(!sends(held.slave) && sends(held.master), "it is not held any more");
	MUST(ioctl(held.slave, TCXONC, TCOON));
	CHECK(sends(held.slave), "it cannot be started");

	int answer = 0;
	MUST(ioctl(packets.master, TIOCGPKT, &answer));
	CHECK(answer == 1, "packet mode is off");
	char status = TIOCPKT_STOP;
	expect(packets.master, &status, 1, "status of packet mode");
	expect(packets.master, "\0data\r\n", 7, "packet");
	expect_nothing(packets.master, "packets");
}

static void check_lonely(void)
{
	char byte;
	struct pollfd polled = {closed.master, POLLIN, 0};
	poll(&polled, 1, 0);
	CHECK(polled.revents & POLLHUP, "a closed slave: %x", polled.revents);
	closed.slave = MUST(ioctl(closed.master, TIOCGPTPEER, O_RDWR | O_NOCTTY));
	expect(closed.slave, "for nobody\n", 11, "input of a closed slave");

	polled = (struct pollfd){lonely, POLLIN, 0};
	CHECK(poll(&polled, 1, 0) == 0, "a slave that nobody opened: %x", polled.revents);
	int answer;
	MUST(ioctl(lonely, TIOCGPTLCK, &answer));
	CHECK(answer == 1, "it is not locked any more");
	CHECK(ioctl(lonely, TIOCGPTPEER, O_RDWR | O_NOCTTY) == -1 && errno == EIO, "it can be opened");
	MUST(ioctl(lonely, TIOCGPTN, &answer));
	CHECK(answer == lonely_index, "its index");

	CHECK(read(gone.slave, &byte, 1) == 0, "a slave without a master has input");
	CHECK(write(gone.slave, "x", 1) == -1 && errno == EIO, "a slave without a master can be written to");
}

/* A session on a pseudo-terminal: its leader, one in the background without the terminal, one in the foreground. */
struct session {
	volatile int ready, asked, done, signals;
	volatile pid_t leader, background, foreground;
	char reason[200];
};
static struct session *session;
static struct pty console;

static void on_signal(int number)
{
	session->signals |= 1 << number;
}

#define SURE(condition, words)                        \
	if (!(condition))                             \
		snprintf(session->reason, sizeof session->reason, "%s (%s)", words, strerror(errno))

static void wait_asked(void)
{
	__sync_fetch_and_add(&session->ready, 1);
	while (!session->asked)
		usleep(5000);
}

static void end_child(void)
{
	__sync_fetch_and_add(&session->done, 1);
	for (;;)
		pause();
}

static void lead(void)
{
	setsid();
	for (int number = 1; number < 32; number++)
		if (number == SIGHUP || number == SIGTTIN || number == SIGTTOU || number == SIGCONT || number == SIGWINCH)
			signal(number, on_signal);
	MUST(ioctl(console.slave, TIOCSCTTY, 0));
	session->leader = getpid();
	int tty = MUST(open("/dev/tty", O_RDWR));
	if (!(session->background = fork())) {
		setpgid(0, 0);
		session->background = getpid();
		MUST(ioctl(tty, TIOCNOTTY));
		wait_asked();
		SURE(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO, "it has a terminal that it gave up");
		end_child();
	}
	if (!(session->foreground = fork())) {
		setpgid(0, 0);
		session->foreground = getpid();
		wait_asked();
		SURE(tcgetpgrp(tty) == getpid(), "it is not in the foreground");
		SURE(tcgetsid(tty) == session->leader, "another session has its terminal");
		SURE(write(tty, "hello\n", 6) == 6, "it cannot write to its terminal");
		end_child();
	}
	setpgid(session->foreground, session->foreground);
	sigset_t stops;
	sigemptyset(&stops);
	sigaddset(&stops, SIGTTOU);
	sigprocmask(SIG_BLOCK, &stops, NULL);
	MUST(tcsetpgrp(tty, session->foreground));
	sigprocmask(SIG_UNBLOCK, &stops, NULL);
	wait_asked();
	SURE(tcgetpgrp(tty) == session->foreground, "another group is in the foreground");
	SURE(tcgetsid(tty) == getpid(), "the leader has no terminal");
	end_child();
}

static void set_up_session(void)
{
	session = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	console = open_pair();
	if (!fork())
		lead();
	close(console.slave);
	for (int round = 0; round < 5000 && session->ready < 3; round++)
		usleep(2000);
	CHECK(session->ready == 3, "set-up: the session");
	session->signals = 0;
}

static void check_session(void)
{
	session->asked = 1;
	for (int round = 0; round < 5000 && session->done < 3; round++)
		usleep(2000);
	CHECK(!session->reason[0], "%s", session->reason);
	CHECK(session->done == 3, "the session does not answer");
	CHECK(!session->signals, "signals came: %x", session->signals);
	expect(console.master, "hello\r\n", 7, "what the foreground wrote");
	signal(SIGHUP, SIG_IGN);
	kill(session->background, SIGKILL);
	kill(session->foreground, SIGKILL);
	kill(session->leader, SIGKILL);
	MUST(waitpid(session->leader, NULL, 0));
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	set_up();
	set_up_session();
	victim_ready();
	victim_wait();
	check_settings();
	check_content();
	check_lonely();
	check_session();
	return victim_pass();
}
