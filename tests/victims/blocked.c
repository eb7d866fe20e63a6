/*
 * Waits that the kernel itself never restarts after a stop, and two that it does: none may see EINTR, each must take its
 * time by the monotonic clock.
 */
#include "victim.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/sem.h>

#define COUNT 7
#define SECONDS 4
#define SLACK 0.8

enum { EPOLL, EPOLL_PWAIT2, SIGTIMEDWAIT, SEMTIMEDOP, NANOSLEEP, EPOLL_FOREVER, SEMOP };
static const char *const names[COUNT] = {
	"epoll_wait", "epoll_pwait2", "sigtimedwait", "semtimedop", "clock_nanosleep", "epoll_wait without timeout", "semop",
};
static int epoll_fd, epoll_forever_fd, event_fd, semaphores;
static pthread_t threads[COUNT];
static struct {
	long result;
	int error;
	double began, ended;
	volatile int done;
} outcome[COUNT];

static long wait_as(long role)
{
	struct timespec wait = {.tv_sec = SECONDS};
	struct epoll_event event;
	struct sembuf take = {.sem_num = role == SEMOP, .sem_op = -1};
	sigset_t wanted;
	siginfo_t info;
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGUSR2);
	switch (role) {
	case EPOLL:
		return epoll_wait(epoll_fd, &event, 1, SECONDS * 1000);
	case EPOLL_PWAIT2:
		return syscall(SYS_epoll_pwait2, epoll_fd, &event, 1, &wait, NULL, 0);
	case SIGTIMEDWAIT:
		return syscall(SYS_rt_sigtimedwait, &wanted, &info, &wait, 8);
	case SEMTIMEDOP:
		return semtimedop(semaphores, &take, 1, &wait);
	case NANOSLEEP:
		errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, NULL);
		return errno ? -1 : 0;
	case EPOLL_FOREVER:
		return epoll_wait(epoll_forever_fd, &event, 1, -1);
	default:
		return semop(semaphores, &take, 1);
	}
}

static void *run(void *argument)
{
	long role = (long)argument;
	outcome[role].began = victim_now();
	errno = 0;
	outcome[role].result = wait_as(role);
	outcome[role].error = errno;
	outcome[role].ended = victim_now();
	outcome[role].done = 1;
	return NULL;
}

static void prepare(void)
{
	sigset_t blocked;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	epoll_fd = MUST(epoll_create1(0));
	epoll_forever_fd = MUST(epoll_create1(0));
	event_fd = MUST(eventfd(0, 0));
	struct epoll_event watched = {.events = EPOLLIN};
	MUST(epoll_ctl(epoll_forever_fd, EPOLL_CTL_ADD, event_fd, &watched));
	semaphores = MUST(semget(IPC_PRIVATE, 2, 0600));
	victim_say("semaphores %d", semaphores);
	MUST(semctl(semaphores, 0, SETVAL, 0));
	MUST(semctl(semaphores, 1, SETVAL, 0));
}

int main(int argc, char **argv)
{
	static const long expected[COUNT] = {0, 0, -1, -1, 0, 1, 0};
	victim_start(argc, argv);
	prepare();
	for (long role = 0; role < COUNT; role++)
		CHECK(!pthread_create(&threads[role], NULL, run, (void *)role), "set-up: pthread_create");
	usleep(100000);
	victim_ready();
	victim_wait();
	for (int role = EPOLL_FOREVER; role < COUNT; role++)
		CHECK(!outcome[role].done, "%s ended unasked: %ld, errno %d", names[role], outcome[role].result,
		      outcome[role].error);
	struct sembuf give = {.sem_num = 1, .sem_op = 1};
	uint64_t one = 1;
	MUST(semop(semaphores, &give, 1));
	MUST(write(event_fd, &one, sizeof one));
	for (int role = 0; role < COUNT; role++)
		pthread_join(threads[role], NULL);
	semctl(semaphores, 0, IPC_RMID);
	for (int role = 0; role < COUNT; role++) {
		double took = outcome[role].ended - outcome[role].began;
		int error = expected[role] == -1 ? EAGAIN : 0;
		CHECK(outcome[role].result == expected[role] && outcome[role].error == error,
		      "%s returned %ld, errno %d, after %.3f s", names[role], outcome[role].result, outcome[role].error, took);
		CHECK(role >= EPOLL_FOREVER || (took >= SECONDS - 0.01 && took <= SECONDS + SLACK),
		      "%s took %.3f s, wanted %d", names[role], took, SECONDS);
	}
	return victim_pass();
}
