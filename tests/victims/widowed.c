/*
 * Special cases, picked by the second argument: a pipe without a writer, one in packet mode, an eventfd that is a semaphore,
 * a root of its own.
 */
#include "victim.h"
#include <sys/eventfd.h>

int main(int argc, char **argv)
{
	int ends[2] = {-1, -1}, semaphore = -1;
	char got[100];
	uint64_t value = 0;
	struct stat root, now;
	victim_start(argc, argv);
	const char *kind = argc > 2 ? argv[2] : "";
	if (!strcmp(kind, "semaphore")) {
		semaphore = MUST(eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK));
	} else if (!strcmp(kind, "packets")) {
		MUST(pipe2(ends, O_DIRECT));
		MUST(write(ends[1], "one", 3));
		MUST(write(ends[1], "second", 6));
	} else if (!strcmp(kind, "widowed")) {
		MUST(pipe(ends));
		MUST(write(ends[1], "left", 4));
		MUST(close(ends[1]));
	} else if (!strcmp(kind, "rooted")) {
		const char *jail = victim_beside("jail");
		MUST(mkdir(jail, 0700));
		MUST(stat(jail, &root));
		MUST(chroot(jail));
	} else {
		FAIL("set-up: nothing is called %s", kind);
	}
	victim_ready();
	victim_wait();
	if (semaphore >= 0) {
		for (int left = 3; left > 0; left--)
			CHECK(read(semaphore, &value, 8) == 8 && value == 1, "eventfd semaphore: %lu", value);
		CHECK(read(semaphore, &value, 8) == -1 && errno == EAGAIN, "eventfd semaphore has more");
	} else if (!strcmp(kind, "rooted")) {
		CHECK(stat("/", &now) == 0 && now.st_dev == root.st_dev && now.st_ino == root.st_ino, "another root");
		CHECK(access("/proc", F_OK) == -1, "a way out of the root");
	} else if (!strcmp(kind, "packets")) {
		CHECK(read(ends[0], got, 100) == 3 && !memcmp(got, "one", 3), "first packet");
		CHECK(read(ends[0], got, 100) == 6 && !memcmp(got, "second", 6), "second packet");
	} else {
		CHECK(read(ends[0], got, 10) == 4 && !memcmp(got, "left", 4), "data of a pipe without a writer");
		CHECK(read(ends[0], got, 10) == 0, "a pipe without a writer does not end");
	}
	return victim_pass();
}
