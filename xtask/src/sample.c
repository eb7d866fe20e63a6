/*
 * The program that `cargo xtask demo` and `cargo xtask bench` dump and restore.
 *   sample OUTPUT count            writes a line with its count ten times a second
 *   sample OUTPUT gaps MIB THREADS fills MIB of memory with noise, has THREADS sleeping, and looks at the clock all the time:
 *                                  SIGUSR1 writes the longest time (ns) for which it could not, and begins anew
 *   sample OUTPUT warm MIB         touches MIB of memory and ends: on a virtual machine whose host takes unused memory back,
 *                                  the first touch of a page takes long, and would be counted as time of what is measured
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static FILE *output;
static volatile sig_atomic_t asked;

static void on_ask(int number)
{
	(void)number;
	asked = 1;
}

static void pause_for(long ns)
{
	struct timespec time = {.tv_nsec = ns};
	nanosleep(&time, NULL);
}

static uint64_t now(void)
{
	struct timespec time;
	/* Not the monotonic one: a restored process has that go on from where it stood, and sees no gap. */
	clock_gettime(CLOCK_REALTIME, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void count(void)
{
	static const char *const words[] = {"hello", "still here", "counting on", "nothing happened"};
	for (unsigned number = 1;; number++) {
		fprintf(output, "%u %s\n", number, words[number % 4]);
		fflush(output);
		pause_for(100000000);
	}
}

static void *sleep_on(void *none)
{
	for (;;)
		pause();
	return none;
}

static void gaps(size_t mib, int threads)
{
	uint64_t *words = malloc((mib << 20) + 8);
	uint64_t state = 88172645463325252ull;
	for (size_t at = 0; at < mib << 17; at++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		words[at] = state;
	}
	for (int number = 0; number < threads; number++) {
		pthread_t thread;
		pthread_create(&thread, NULL, sleep_on, NULL);
	}
	fprintf(output, "ready\n");
	fflush(output);
	uint64_t last = now(), longest = 0;
	for (;;) {
		pause_for(50000);
		uint64_t time = now();
		if (time - last > longest)
			longest = time - last;
		last = time;
		if (asked) {
			asked = 0;
			fprintf(output, "gap %lu\n", longest);
			fflush(output);
			longest = 0;
			last = now();
		}
	}
}

int main(int argc, char **argv)
{
	if (argc < 3 || !(output = fopen(argv[1], "a")))
		return 2;
	signal(SIGUSR1, on_ask);
	if (!strcmp(argv[2], "count"))
		count();
	if (argc == 4 && !strcmp(argv[2], "warm")) {
		size_t len = strtoul(argv[3], NULL, 10) << 20;
		volatile char *bytes = malloc(len);
		for (size_t at = 0; bytes && at < len; at += 4096)
			bytes[at] = 1;
		return !bytes;
	}
	if (argc < 5)
		return 2;
	gaps(strtoul(argv[3], NULL, 10), atoi(argv[4]));
}
