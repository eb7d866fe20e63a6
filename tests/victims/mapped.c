/*
 * Memory as a restore may map it from a page file: much of it, some with holes, in the heap, protected, and a child's. While it
 * waits it reads 1 MiB of it again and again. Then: all is as it was; writes stay with who wrote; what is thrown away is either
 * zeros or not thrown away, and said so; it can be grown, moved and unmapped.
 */
#include "victim.h"
#include <sys/wait.h>

#define PAGE 4096UL
#define MIB (1UL << 20)
#define BIG (48 * MIB)
#define HOT MIB
#define SMALL (4 * MIB)

static char *big, *holes, *heap, *fixed, *none;

static uint64_t pattern(uint64_t at)
{
	at = (at + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
	return at ^ (at >> 29);
}

static char *area(size_t len)
{
	char *made = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(made != MAP_FAILED, "mmap: %s", strerror(errno));
	return made;
}

static void fill(char *from, size_t len, uint64_t seed)
{
	for (size_t at = 0; at < len; at += 8)
		*(uint64_t *)(from + at) = pattern(seed + at);
}

static void look(const char *name, const char *from, size_t len, uint64_t seed)
{
	for (size_t at = 0; at < len; at += 8) {
		uint64_t is = *(const uint64_t *)(from + at);
		CHECK(is == pattern(seed + at), "%s at %zx is %lx", name, at, is);
	}
}

static void look_at_holes(void)
{
	for (size_t at = 0; at < SMALL; at += 32 * PAGE) {
		look("holes", holes + at, 20 * PAGE, 7 + at);
		for (size_t zero = at + 20 * PAGE; zero < at + 32 * PAGE; zero += 8)
			CHECK(!*(uint64_t *)(holes + zero), "hole at %zx", zero);
	}
}

static void look_at_all(void)
{
	look("big", big, BIG, 0);
	look("heap", heap, SMALL, 1);
	look("fixed", fixed, SMALL, 2);
	look_at_holes();
	CHECK(!mprotect(none, SMALL, PROT_READ), "mprotect: %s", strerror(errno));
	look("none", none, SMALL, 3);
}

/* Where pages cannot be thrown away, whoever wants that is told; where they can, zeros come. */
static void throw_away(char *from, size_t len, uint64_t seed)
{
	if (madvise(from, len, MADV_DONTNEED)) {
		CHECK(errno == EINVAL, "madvise: %s", strerror(errno));
		return look("kept", from, len, seed);
	}
	for (size_t at = 0; at < len; at += 8)
		CHECK(!*(uint64_t *)(from + at), "thrown away, at %zx", at);
	fill(from, len, seed);
}

static void change(void)
{
	fill(big + 8 * MIB, 2 * MIB, 99);
	look("written", big + 8 * MIB, 2 * MIB, 99);
	look("before it", big, 8 * MIB, 0);
	look("behind it", big + 10 * MIB, 4 * MIB, 10 * MIB);
	throw_away(big + 16 * MIB, MIB, 16 * MIB);
	pid_t pid = fork();
	if (!pid) {
		look("written, in a child", big + 8 * MIB, 2 * MIB, 99);
		fill(big, MIB, 5);
		_exit(0);
	}
	int status;
	CHECK(waitpid(pid, &status, 0) == pid && !status, "child %x", status);
	look("not written by a child", big, MIB, 0);
	fill(big + 8 * MIB, 2 * MIB, 8 * MIB);
	CHECK(!munmap(big + 32 * MIB, MIB), "munmap: %s", strerror(errno));
	char *again = mmap(big + 32 * MIB, MIB, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(again == big + 32 * MIB, "mmap: %s", strerror(errno));
	for (size_t at = 0; at < MIB; at += 8)
		CHECK(!*(uint64_t *)(again + at), "new, at %zx", at);
	void *moved = mremap(fixed + MIB, MIB, MIB, MREMAP_MAYMOVE | MREMAP_FIXED, again);
	CHECK(moved == again, "mremap: %s", strerror(errno));
	look("moved", again, MIB, 2 + MIB);
	char *more = malloc(32 * MIB);
	CHECK(more, "malloc");
	memset(more, 1, 32 * MIB);
	free(more);
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	heap = sbrk(SMALL);
	CHECK(heap != (void *)-1, "sbrk: %s", strerror(errno));
	big = area(BIG), holes = area(SMALL), fixed = area(SMALL), none = area(SMALL);
	fill(big, BIG, 0), fill(heap, SMALL, 1), fill(fixed, SMALL, 2), fill(none, SMALL, 3);
	for (size_t at = 0; at < SMALL; at += 32 * PAGE)
		fill(holes + at, 20 * PAGE, 7 + at);
	CHECK(!mprotect(fixed, SMALL, PROT_READ), "mprotect: %s", strerror(errno));
	CHECK(!mprotect(none, SMALL, PROT_NONE), "mprotect: %s", strerror(errno));
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pid_t child = fork();
	if (!child) {
		signal(SIGUSR1, SIG_DFL);
		fill(big + 4 * MIB, MIB, 77);
		int number;
		sigwait(&set, &number);
		look("child's", big, 4 * MIB, 0);
		look("child's own", big + 4 * MIB, MIB, 77);
		look("child's rest", big + 5 * MIB, BIG - 5 * MIB, 5 * MIB);
		look_at_holes();
		_exit(0);
	}
	sigset_t asks;
	sigemptyset(&asks);
	sigaddset(&asks, SIGUSR1);
	victim_ready();
	sigprocmask(SIG_UNBLOCK, &asks, NULL);
	while (!victim_asked) {
		look("hot", big + 20 * MIB, HOT, 20 * MIB);
		struct timespec pause = {.tv_nsec = 20000000};
		nanosleep(&pause, NULL);
	}
	int status;
	kill(child, SIGUSR2);
	CHECK(waitpid(child, &status, 0) == child && !status, "child %x", status);
	look_at_all();
	change();
	return victim_pass();
}
