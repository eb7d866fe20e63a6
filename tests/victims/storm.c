/*
 * Children and grandchildren that live for a moment, made by several threads at a time. Each parent checks how its child
 * ended: none may be lost, and none come twice.
 */
#include "victim.h"
#include <sys/wait.h>

#define MAKERS 3

static volatile int over;
static volatile long made[MAKERS];

static void *nothing(void *unused)
{
	return unused;
}

static int child(int number)
{
	pthread_t thread;
	if (number % 3 == 0 && !pthread_create(&thread, NULL, nothing, NULL))
		pthread_join(thread, NULL);
	if (number % 2 == 0) {
		pid_t grandchild = fork();
		if (!grandchild)
			_exit(number % 50);
		int status;
		if (waitpid(grandchild, &status, 0) != grandchild || !WIFEXITED(status) || WEXITSTATUS(status) != number % 50)
			return 99;
	}
	return number % 77;
}

static void *maker(void *which)
{
	for (int number = 0; !over; number++) {
		pid_t pid = fork();
		if (!pid)
			_exit(child(number));
		CHECK(pid > 0, "fork: %s", strerror(errno));
		int status;
		CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == number % 77, "child %d ended with %x", number, status);
		made[(long)which]++;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[MAKERS];
	victim_start(argc, argv);
	for (long which = 0; which < MAKERS; which++)
		CHECK(!pthread_create(&threads[which], NULL, maker, (void *)which), "pthread_create");
	victim_ready();
	victim_wait();
	long before = made[0];
	for (int round = 0; round < 1000 && made[0] == before; round++)
		usleep(10000);
	CHECK(made[0] > before, "no more children");
	over = 1;
	for (int which = 0; which < MAKERS; which++)
		pthread_join(threads[which], NULL);
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a child is left");
	return victim_pass();
}
