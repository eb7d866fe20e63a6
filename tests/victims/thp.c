/*
 * Memory that is to be of transparent huge pages where it can be. Asked, it says how much of it is, in KiB, and how much of as much
 * new memory of the same kind: nobody can have more than the machine has left.
 */
#include "victim.h"

#define LEN (16UL << 20)
#define HUGE (2UL << 20)

static char *area(void)
{
	char *made = mmap(NULL, LEN + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(made != MAP_FAILED, "mmap: %s", strerror(errno));
	made = (char *)(((uintptr_t)made + HUGE - 1) & ~(HUGE - 1));
	CHECK(!madvise(made, LEN, MADV_HUGEPAGE), "madvise: %s", strerror(errno));
	memset(made, 0xa5, LEN);
	return made;
}

static long huge_in(char *area)
{
	char line[400];
	int is_it = 0;
	long huge = -1;
	FILE *smaps = fopen("/proc/self/smaps", "r");
	CHECK(smaps, "smaps: %s", strerror(errno));
	while (huge < 0 && fgets(line, sizeof line, smaps)) {
		unsigned long from, to;
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			is_it = from <= (uintptr_t)area && (uintptr_t)area < to;
		else if (is_it)
			sscanf(line, "AnonHugePages: %ld", &huge);
	}
	fclose(smaps);
	return huge;
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	char *old = area();
	victim_ready();
	victim_wait();
	long huge = huge_in(old);
	for (size_t at = 0; at < LEN; at++)
		CHECK((unsigned char)old[at] == 0xa5, "byte %zx is %x", at, old[at]);
	victim_say("huge %ld", huge);
	victim_say("new %ld", huge_in(area()));
	return victim_pass();
}
