/* Threads that begin and end all the time; counted, so that none is lost. */
#include "victim.h"

#define WIDTH 10

static long begun, ended;

static void *live(void *pause)
{
	__atomic_add_fetch(&begun, 1, __ATOMIC_RELAXED);
	usleep((useconds_t)(long)pause % 3 * 100);
	__atomic_add_fetch(&ended, 1, __ATOMIC_RELAXED);
	return pause;
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	sigset_t asks;
	sigemptyset(&asks);
	sigaddset(&asks, SIGUSR1);
	victim_ready();
	sigprocmask(SIG_UNBLOCK, &asks, NULL);
	long rounds = 0;
	for (; !victim_asked; rounds++) {
		pthread_t threads[WIDTH];
		for (long at = 0; at < WIDTH; at++)
			CHECK(!pthread_create(&threads[at], NULL, live, (void *)at), "pthread_create: %s", strerror(errno));
		for (long at = 0; at < WIDTH; at++) {
			void *result = NULL;
			CHECK(!pthread_join(threads[at], &result) && result == (void *)at, "thread %ld returned %p", at, result);
		}
	}
	CHECK(begun == rounds * WIDTH && ended == begun, "%ld rounds, %ld begun, %ld ended", rounds, begun, ended);
	return victim_pass();
}
