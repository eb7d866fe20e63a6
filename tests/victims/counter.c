/* Counts into the output, and keeps 8 MiB of a pattern. Built static too. */
#include "victim.h"

#define WORDS ((size_t)8 << 17)

static uint64_t pattern(uint64_t at)
{
	at = (at + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
	return at ^ (at >> 29);
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	uint64_t *words = malloc(WORDS * sizeof *words);
	for (size_t at = 0; at < WORDS; at++)
		words[at] = pattern(at);
	sigset_t asks;
	sigemptyset(&asks);
	sigaddset(&asks, SIGUSR1);
	pid_t self = getpid();
	victim_ready();
	sigprocmask(SIG_UNBLOCK, &asks, NULL);
	for (long count = 1; !victim_asked; count++) {
		victim_say("count %ld", count);
		struct timespec pause = {.tv_nsec = 20000000};
		if (nanosleep(&pause, NULL) && !victim_asked)
			FAIL("nanosleep: %s", strerror(errno));
	}
	for (size_t at = 0; at < WORDS; at++)
		CHECK(words[at] == pattern(at), "word %zu is %lx", at, words[at]);
	CHECK(getpid() == self, "pid %d, was %d", getpid(), self);
	CHECK(syscall(SYS_gettid) == self, "tid %ld, was %d", syscall(SYS_gettid), self);
	return victim_pass();
}
