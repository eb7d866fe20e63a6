/* One of nearly every object that a tree can own, and what is to be seen of each afterwards. */
#include "victim.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>

#define STACK_SIZE 16384

static int pipe_ends[2], fifo, pair[2], listener, counter, watcher, timer, signals, notes, blob, ghost, locked, master, slave;
static char *shared;
static timer_t interval;
static pid_t child;
static volatile int rounds[3];

static void on_term(int number)
{
	(void)number;
}

static void *work(void *place)
{
	prctl(PR_SET_NAME, "worker");
	for (;;) {
		(*(volatile int *)place)++;
		usleep(10000);
	}
	return NULL;
}

/* The child, in a group of its own, with a child that has ended and that nobody has waited for. */
static void be_child(void)
{
	prctl(PR_SET_NAME, "child");
	if (fork() == 0)
		_exit(3);
	setpgid(0, 0);
	siginfo_t info;
	waitid(P_ALL, 0, &info, WEXITED | WNOWAIT);
	shared[100] = 'c';
	while (shared[101] != '?')
		usleep(1000);
	int status = 0;
	int is_right = wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 3;
	shared[102] = is_right && getpgrp() == getpid() ? 'y' : 'n';
	for (;;)
		pause();
}

static void set_up(void)
{
	MUST(pipe(pipe_ends));
	MUST(write(pipe_ends[1], "queued in a pipe", 16));
	MUST(mkfifo("fifo", 0600));
	fifo = MUST(open("fifo", O_RDWR));
	MUST(write(fifo, "fifo!", 5));
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	MUST(send(pair[0], "one", 3, 0));
	MUST(send(pair[0], "two", 3, 0));
	struct sockaddr_un name = { AF_UNIX, "listen.sock" };
	listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(bind(listener, (void *)&name, sizeof name));
	MUST(listen(listener, 8));
	counter = MUST(eventfd(7, EFD_NONBLOCK));
	watcher = MUST(epoll_create1(0));
	struct epoll_event event = { EPOLLIN, { .u64 = 0x1234 } };
	MUST(epoll_ctl(watcher, EPOLL_CTL_ADD, counter, &event));
	timer = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
	struct itimerspec thousand = { { 1000, 0 }, { 1000, 0 } };
	MUST(timerfd_settime(timer, 0, &thousand, NULL));
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = MUST(signalfd(-1, &set, 0));
	raise(SIGUSR2);
	ghost = MUST(open("ghost", O_CREAT | O_RDWR, 0644));
	MUST(write(ghost, "unlinked content", 16));
	MUST(unlink("ghost"));
	locked = MUST(open("locked", O_CREAT | O_RDWR | O_APPEND, 0644));
	MUST(write(locked, "hello", 5));
	MUST(flock(locked, LOCK_EX));
	/* Last of what makes files: nothing waits in it. */
	notes = MUST(inotify_init());
	MUST(inotify_add_watch(notes, ".", IN_CREATE));
	blob = MUST(memfd_create("blob", MFD_ALLOW_SEALING));
	MUST(write(blob, "memfd", 5));
	MUST(fcntl(blob, F_ADD_SEALS, F_SEAL_GROW));
	master = MUST(posix_openpt(O_RDWR | O_NOCTTY));
	MUST(grantpt(master));
	MUST(unlockpt(master));
	slave = MUST(open(ptsname(master), O_RDWR | O_NOCTTY));
	shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	strcpy(shared, "shared anonymous");
	struct sigaction action = { .sa_handler = on_term, .sa_flags = SA_RESTART | SA_ONSTACK };
	MUST(sigaction(SIGTERM, &action, NULL));
	stack_t stack = { malloc(STACK_SIZE), 0, STACK_SIZE };
	MUST(sigaltstack(&stack, NULL));
	struct sigevent end = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGTERM };
	MUST(timer_create(CLOCK_MONOTONIC, &end, &interval));
	struct itimerspec two_thousand = { { 2000, 0 }, { 2000, 0 } };
	MUST(timer_settime(interval, 0, &two_thousand, NULL));
	struct itimerval three_thousand = { { 3000, 0 }, { 3000, 0 } };
	MUST(setitimer(ITIMER_REAL, &three_thousand, NULL));
	umask(027);
	prctl(PR_SET_NAME, "menagerie");
}

/* A time that has begun to run: most of it is left. */
static int runs(long left, long all)
{
	return left <= all && left > all - 600;
}

static void look_at_files(void)
{
	char bytes[32];
	CHECK(read(pipe_ends[0], bytes, 32) == 16 && !memcmp(bytes, "queued in a pipe", 16), "the pipe");
	CHECK(read(fifo, bytes, 32) == 5 && !memcmp(bytes, "fifo!", 5), "the named pipe");
	CHECK(recv(pair[1], bytes, 32, 0) == 3 && !memcmp(bytes, "one", 3), "the first message");
	CHECK(recv(pair[1], bytes, 32, 0) == 3 && !memcmp(bytes, "two", 3), "the second message");
	struct sockaddr_un name = { AF_UNIX, "listen.sock" };
	int client = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(connect(client, (void *)&name, sizeof name) == 0, "connect: %s", strerror(errno));
	int server = accept(listener, NULL, NULL);
	CHECK(server >= 0 && write(client, "hello", 5) == 5 && read(server, bytes, 32) == 5, "the connection");
	struct epoll_event event;
	CHECK(epoll_wait(watcher, &event, 1, 0) == 1 && event.data.u64 == 0x1234, "the epoll");
	uint64_t value = 0;
	CHECK(read(counter, &value, 8) == 8 && value == 7, "the eventfd has %lu", (long)value);
	CHECK(fcntl(counter, F_GETFL) & O_NONBLOCK, "the eventfd waits");
	struct signalfd_siginfo info;
	CHECK(read(signals, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR2, "the signalfd");
	CHECK(close(open("fresh", O_CREAT | O_RDWR, 0666)) == 0, "a new file");
	struct stat stat;
	CHECK(fstatat(AT_FDCWD, "fresh", &stat, 0) == 0 && (stat.st_mode & 0777) == 0640, "the umask: %o", stat.st_mode);
	char note[256];
	struct inotify_event *told = (void *)note;
	CHECK(read(notes, note, sizeof note) > 0 && told->mask == IN_CREATE && !strcmp(told->name, "fresh"), "the inotify");
	CHECK(pread(blob, bytes, 32, 0) == 5 && !memcmp(bytes, "memfd", 5), "the memfd");
	CHECK(fcntl(blob, F_GET_SEALS) == F_SEAL_GROW, "its seals");
	CHECK(pread(ghost, bytes, 32, 0) == 16 && !memcmp(bytes, "unlinked content", 16), "the deleted file");
	int other = open("locked", O_RDWR);
	CHECK(flock(other, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK, "the lock");
	CHECK(write(slave, "x", 1) == 1 && read(master, bytes, 32) == 1 && bytes[0] == 'x', "the terminal");
}

static void look_at_tasks(void)
{
	struct itimerspec left;
	CHECK(timerfd_gettime(timer, &left) == 0 && left.it_interval.tv_sec == 1000 && runs(left.it_value.tv_sec, 1000), "the timerfd");
	CHECK(timer_gettime(interval, &left) == 0 && left.it_interval.tv_sec == 2000 && runs(left.it_value.tv_sec, 2000), "the timer");
	struct itimerval real;
	CHECK(getitimer(ITIMER_REAL, &real) == 0 && real.it_interval.tv_sec == 3000 && runs(real.it_value.tv_sec, 3000), "the alarm");
	struct sigaction action;
	CHECK(sigaction(SIGTERM, NULL, &action) == 0 && action.sa_handler == on_term, "the handler");
	stack_t stack;
	CHECK(sigaltstack(NULL, &stack) == 0 && stack.ss_size == STACK_SIZE, "the stack for signals");
	char comm[16] = "";
	CHECK(prctl(PR_GET_NAME, comm) == 0 && !strcmp(comm, "menagerie"), "the name is %s", comm);
	CHECK(!strcmp(shared, "shared anonymous"), "the shared memory");
	for (int i = 0; i < 3; i++) {
		int before = rounds[i];
		for (int wait = 0; rounds[i] == before && wait < 3000; wait++)
			usleep(1000);
		CHECK(rounds[i] != before, "thread %d stands still", i);
	}
	shared[101] = '?';
	for (int wait = 0; !shared[102] && wait < 10000; wait++)
		usleep(1000);
	CHECK(shared[102] == 'y', "the child says %d", shared[102]);
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	const char *folder = victim_beside("folder");
	MUST(mkdir(folder, 0755));
	MUST(chdir(folder));
	set_up();
	for (int i = 0; i < 3; i++) {
		pthread_t thread;
		MUST(-pthread_create(&thread, NULL, work, (void *)&rounds[i]));
	}
	child = MUST(fork());
	if (child == 0)
		be_child();
	while (shared[100] != 'c' || rounds[0] * rounds[1] * rounds[2] == 0)
		usleep(1000);
	victim_ready();
	victim_wait();
	look_at_files();
	look_at_tasks();
	kill(child, SIGKILL);
	return victim_pass();
}
