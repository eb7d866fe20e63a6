/*
 * Ten threads, each in another wait. The timed ones must end by their timeout, at the right time by the monotonic clock;
 * the others must not end before they are woken; none may see EINTR. The second argument is the timeout in seconds.
 * The third, `sigwait`, has the signal waited for by the libc's sigwait, which hides EINTR, instead of the plain call.
 */
#include "victim.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/select.h>

#define COUNT 10
#define SLACK (0.8 + seconds / 20)

enum { NANOSLEEP, NANOSLEEP_UNTIL, FUTEX_TIMED, POLL_TIMED, SELECT_TIMED, FUTEX, POLL, SELECT, READ, SIGWAIT };
static const char *const names[COUNT] = {
	"nanosleep", "clock_nanosleep to a time", "futex with timeout", "poll with timeout", "select with timeout",
	"futex", "poll", "select", "read", "sigwait",
};

static double seconds = 4;
static int by_libc;
static int words[COUNT];
static int pipes[COUNT][2];
static pthread_t threads[COUNT];
static pid_t tids[COUNT];
static struct {
	long result;
	int error;
	double began, ended;
	volatile int done;
} outcome[COUNT];

/*
 * A call that the kernel restarts with what is left (select) is late by each stop of a dump that was killed, which is as long
 * as the machine is slow; had it begun anew each time, it would be late by nearly a whole wait.
 */
static double slack(int role)
{
	return role == SELECT_TIMED && by_libc ? seconds / 3 : SLACK;
}

static struct timespec timeout(void)
{
	return (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (time_t)seconds) * 1e9)};
}

static long wait_as(long role)
{
	struct timespec wait = timeout();
	struct pollfd polled = {.fd = pipes[role][0], .events = POLLIN};
	fd_set set;
	char byte;
	FD_ZERO(&set);
	FD_SET(pipes[role][0], &set);
	switch (role) {
	case NANOSLEEP:
		return syscall(SYS_nanosleep, &wait, NULL);
	case NANOSLEEP_UNTIL: {
		struct timespec now;
		clock_gettime(CLOCK_MONOTONIC, &now);
		now.tv_sec += wait.tv_sec;
		now.tv_nsec += wait.tv_nsec;
		if (now.tv_nsec >= 1000000000) {
			now.tv_sec++;
			now.tv_nsec -= 1000000000;
		}
		long error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &now, NULL);
		errno = error;
		return error ? -1 : 0;
	}
	case FUTEX_TIMED:
		return syscall(SYS_futex, &words[role], FUTEX_WAIT_PRIVATE, 0, &wait, NULL, 0);
	case POLL_TIMED:
		return poll(&polled, 1, (int)(seconds * 1000));
	case SELECT_TIMED: {
		struct timeval limit = {.tv_sec = wait.tv_sec, .tv_usec = wait.tv_nsec / 1000};
		return select(pipes[role][0] + 1, &set, NULL, NULL, &limit);
	}
	case FUTEX:
		return syscall(SYS_futex, &words[role], FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	case POLL:
		return poll(&polled, 1, -1);
	case SELECT:
		return select(pipes[role][0] + 1, &set, NULL, NULL, NULL);
	case READ:
		return read(pipes[role][0], &byte, 1);
	default: {
		sigset_t wanted;
		sigemptyset(&wanted);
		sigaddset(&wanted, SIGUSR2);
		siginfo_t info;
		int number = 0;
		if (by_libc)
			return sigwait(&wanted, &number) ? -1 : number;
		return syscall(SYS_rt_sigtimedwait, &wanted, &info, NULL, 8);
	}
	}
}

static void *run(void *argument)
{
	long role = (long)argument;
	tids[role] = syscall(SYS_gettid);
	outcome[role].began = victim_now();
	errno = 0;
	outcome[role].result = wait_as(role);
	outcome[role].error = errno;
	outcome[role].ended = victim_now();
	outcome[role].done = 1;
	CHECK(tids[role] == syscall(SYS_gettid), "%s: another thread id", names[role]);
	return NULL;
}

static void wake(void)
{
	words[FUTEX] = 1;
	CHECK(syscall(SYS_futex, &words[FUTEX], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 1, "nobody waits on the futex");
	MUST(write(pipes[POLL][1], "x", 1));
	MUST(write(pipes[SELECT][1], "x", 1));
	MUST(write(pipes[READ][1], "x", 1));
	pthread_kill(threads[SIGWAIT], SIGUSR2);
}

int main(int argc, char **argv)
{
	static const long expected[COUNT] = {0, 0, -1, 0, 0, 0, 1, 1, 1, SIGUSR2};
	victim_start(argc, argv);
	if (argc > 2)
		seconds = atof(argv[2]);
	by_libc = argc > 3 && !strcmp(argv[3], "sigwait");
	sigset_t blocked;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	for (long role = 0; role < COUNT; role++) {
		MUST(pipe(pipes[role]));
		CHECK(!pthread_create(&threads[role], NULL, run, (void *)role), "set-up: pthread_create");
	}
	usleep(100000);
	victim_ready();
	victim_wait();
	for (int role = FUTEX; role < COUNT; role++)
		CHECK(!outcome[role].done, "%s ended unasked: %ld, errno %d, after %.3f s", names[role],
		      outcome[role].result, outcome[role].error, outcome[role].ended - outcome[role].began);
	double woken = victim_now();
	wake();
	for (int role = 0; role < COUNT; role++)
		pthread_join(threads[role], NULL);
	for (int role = 0; role < COUNT; role++) {
		double took = outcome[role].ended - outcome[role].began;
		int error = role == FUTEX_TIMED ? ETIMEDOUT : 0;
		CHECK(outcome[role].result == expected[role], "%s returned %ld, errno %d, after %.3f s", names[role],
		      outcome[role].result, outcome[role].error, took);
		CHECK(outcome[role].error == error || (role == SIGWAIT && by_libc), "%s: errno %d, wanted %d", names[role], outcome[role].error, error);
		if (role < FUTEX)
			CHECK(took >= seconds - 0.01 && took <= seconds + slack(role), "%s took %.3f s, wanted %.3f",
			      names[role], took, seconds);
		else
			CHECK(outcome[role].ended - woken <= SLACK, "%s came %.3f s after its waking", names[role],
			      outcome[role].ended - woken);
	}
	return victim_pass();
}
