/*
 * Descriptors of processes: of itself, of a thread, of a child that lives, of one that has ended and one that nobody can wait
 * for any more, with flags, duplicates and inheritance, watched by epoll.
 */
#include "victim.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif
#define PIDFD_NONBLOCK O_NONBLOCK
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

struct clone_args_ {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

static struct shared {
	volatile int asked, done, fd_of_child;
	char why[200];
} *shared;

static int self, of_thread, of_child, of_zombie, of_gone, of_gone_again, of_killed, of_thread_gone, of_clone;
static int poller, late_poller;
static pid_t thread_id, child, zombie;

static void *thread(void *arg)
{
	__atomic_store_n(&thread_id, gettid(), __ATOMIC_SEQ_CST);
	for (;;)
		pause();
	return arg;
}

static void *short_thread(void *arg)
{
	int *descriptor = arg;
	*descriptor = syscall(SYS_pidfd_open, gettid(), PIDFD_THREAD);
	return NULL;
}

static int pidfd(pid_t pid, int flags)
{
	return MUST(syscall(SYS_pidfd_open, pid, flags));
}

/* What fdinfo says of the process, and of the flags. */
static int told(int fd, int *flags)
{
	char path[40], line[100];
	int pid = -2;
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	FILE *info = fopen(path, "r");
	while (info && fgets(line, sizeof line, info)) {
		sscanf(line, "Pid: %d", &pid);
		sscanf(line, "flags: %o", flags);
	}
	if (info)
		fclose(info);
	return pid;
}

static ino_t inode(int fd)
{
	struct stat st = {0};
	fstat(fd, &st);
	return st.st_ino;
}

static int is_ended(int fd)
{
	struct pollfd poll_one = {.fd = fd, .events = POLLIN};
	return poll(&poll_one, 1, 0) == 1 && poll_one.revents & POLLIN;
}

/* The exit status that the kernel keeps of one that is gone; -1 where it keeps none. */
static int exit_status(int fd)
{
	uint64_t info[8] = {8};
	if (ioctl(fd, 0xc040ff0bUL, info) || !(info[0] & 8))
		return -1;
	return info[7] >> 32;
}

static int has_exit_status;

static const char *wrong(int fd, const char *what, pid_t pid, int flags, int ended)
{
	static char why[150];
	int now = 0, is = told(fd, &now);
	const int seen = PIDFD_THREAD | PIDFD_NONBLOCK;
	if (is == pid && (now & seen) == (flags & seen) && is_ended(fd) == ended)
		return NULL;
	snprintf(why, sizeof why, "%s: of %d with flags %o, ended %d; wanted %d, %o, %d", what, is, now & seen, is_ended(fd), pid,
		 flags, ended);
	return why;
}

#define SAME(...)                                  \
	do {                                       \
		const char *why_ = wrong(__VA_ARGS__); \
		if (why_)                          \
			return why_;               \
	} while (0)

/* What parent and child both see. */
static const char *check_common(void)
{
	SAME(of_gone, "a process that is gone", -1, 0, 1);
	SAME(of_gone_again, "the same again", -1, PIDFD_NONBLOCK, 1);
	SAME(of_zombie, "a process that has ended", zombie, 0, 1);
	if (inode(of_gone) != inode(of_gone_again) || inode(of_gone) == inode(of_killed))
		return "inodes of processes that are gone";
	if (has_exit_status && exit_status(of_gone) != 3 << 8)
		return "how a process that is gone has ended";
	return NULL;
}

static const char *check_parent(void)
{
	const char *why = check_common();
	if (why)
		return why;
	SAME(self, "itself", getpid(), PIDFD_NONBLOCK, 0);
	SAME(of_thread, "a thread", thread_id, PIDFD_THREAD, 0);
	SAME(of_child, "a child", child, 0, 0);
	SAME(of_clone, "a child of clone3", -1, 0, 1);
	SAME(of_killed, "a process that was killed", -1, 0, 1);
	SAME(of_thread_gone, "a thread that is gone", -1, PIDFD_THREAD, 1);
	if (has_exit_status && exit_status(of_killed) != SIGTERM)
		return "how a process that was killed has ended";
	if (fcntl(self, F_GETFD) != 0 || fcntl(of_child, F_GETFD) != FD_CLOEXEC)
		return "close on exec";
	if (syscall(SYS_kcmp, getpid(), child, 0, of_child, shared->fd_of_child))
		return "the child has another description";
	if (syscall(SYS_pidfd_send_signal, of_thread, 0, NULL, 0))
		return "no signal can be sent to the thread";
	struct epoll_event events[4];
	if (epoll_wait(poller, events, 4, 0) != 1 || events[0].data.u64 != 7)
		return "epoll does not tell that a child has ended";
	if (epoll_wait(late_poller, events, 4, 0) != 0)
		return "epoll tells that a thread has ended";
	siginfo_t info = {0};
	if (waitid(P_PIDFD, of_zombie, &info, WEXITED) || info.si_pid != zombie || info.si_status != 5)
		return "the end of the child that has ended";
	return told(of_zombie, &(int){0}) == -1 ? NULL : "it was not waited for";
}

static void be_child(pid_t parent)
{
	int of_parent = pidfd(parent, 0);
	while (!shared->asked)
		usleep(10000);
	const char *why = check_common();
	if (!why)
		why = wrong(of_parent, "the parent", parent, 0, 0);
	if (!why && told(of_child, &(int){0}) != getpid())
		why = "what it inherited is not of itself";
	/* It has this one alone: the parent has closed it. */
	if (!why)
		why = wrong(of_thread, "a thread of the parent", thread_id, PIDFD_THREAD, 0);
	snprintf(shared->why, sizeof shared->why, "%s", why ? why : "");
	shared->done = 1;
	while (shared->asked != 2)
		usleep(10000);
	_exit(0);
}

static pid_t fork_ended(int status, int signal)
{
	pid_t pid = MUST(fork());
	if (!pid) {
		if (signal)
			raise(signal);
		_exit(status);
	}
	siginfo_t info;
	MUST(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	return pid;
}

static void watch(int epoll, int fd, uint64_t data)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};
	MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

int main(int argc, char **argv)
{
	pthread_t other, gone;
	int pair[2];
	victim_start(argc, argv);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_create(&gone, NULL, short_thread, &of_thread_gone);
	pthread_join(gone, NULL);
	if (of_thread_gone < 0)
		of_thread_gone = -1; /* before Linux 6.9 */
	pthread_create(&other, NULL, thread, NULL);
	while (!__atomic_load_n(&thread_id, __ATOMIC_SEQ_CST))
		usleep(1000);
	self = pidfd(getpid(), PIDFD_NONBLOCK);
	MUST(fcntl(self, F_SETFD, 0));
	of_thread = pidfd(thread_id, PIDFD_THREAD);
	pid_t pid = fork_ended(3, 0);
	of_gone = pidfd(pid, 0);
	of_gone_again = pidfd(pid, PIDFD_NONBLOCK);
	MUST(waitpid(pid, NULL, 0));
	has_exit_status = exit_status(of_gone) >= 0;
	pid = fork_ended(0, SIGTERM);
	of_killed = pidfd(pid, 0);
	MUST(waitpid(pid, NULL, 0));
	zombie = fork_ended(5, 0);
	of_zombie = pidfd(zombie, 0);
	struct clone_args_ args = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&of_clone, .exit_signal = SIGCHLD};
	pid = MUST(syscall(SYS_clone3, &args, sizeof args));
	if (!pid)
		_exit(0);
	MUST(waitpid(pid, NULL, 0));
	/* The child has to know the descriptor of itself. */
	MUST(pipe(pair));
	child = MUST(fork());
	if (!child) {
		MUST(read(pair[0], &of_child, sizeof of_child));
		int theirs = pidfd(getppid(), 0);
		of_child = MUST(syscall(SYS_pidfd_getfd, theirs, of_child, 0));
		close(theirs);
		close(pair[0]);
		close(pair[1]);
		shared->fd_of_child = of_child;
		shared->done = 2;
		be_child(getppid());
	}
	of_child = pidfd(child, 0);
	MUST(write(pair[1], &of_child, sizeof of_child));
	while (shared->done != 2)
		usleep(1000);
	shared->done = 0;
	close(pair[0]);
	close(pair[1]);
	poller = MUST(epoll_create1(0));
	watch(poller, of_child, 6);
	watch(poller, of_zombie, 7);
	late_poller = MUST(epoll_create1(0));
	watch(late_poller, of_thread, 8);
	watch(late_poller, self, 9);
	victim_ready();
	victim_wait();
	shared->asked = 1;
	for (int tries = 0; !shared->done && tries < 3000; tries++)
		usleep(10000);
	CHECK(shared->done, "the child does not answer");
	CHECK(!shared->why[0], "child: %s", shared->why);
	const char *why = check_parent();
	shared->asked = 2;
	CHECK(!why, "%s", why);
	CHECK(waitpid(child, NULL, 0) == child && told(of_child, &(int){0}) == -1, "the end of the child");
	return victim_pass();
}
