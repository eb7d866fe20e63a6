/* Huge pages of a pool, private and shared, and shared ones mapped a second time in part. Says so where there are none. */
#include "victim.h"

#define HUGE (2UL << 20)

static unsigned char *map(int sharing)
{
	int flags = sharing | MAP_ANONYMOUS | MAP_HUGETLB;
	unsigned char *at = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, flags, -1, 0);
	return at == MAP_FAILED ? NULL : at;
}

static void fill(unsigned char *at, int who)
{
	for (unsigned long page = 0; at && page < 2 * HUGE / 4096; page++)
		at[page * 4096 + page % 4096] = page * 7 + who;
}

static void check(unsigned char *at, int who)
{
	for (unsigned long page = 0; at && page < 2 * HUGE / 4096; page++)
		CHECK(at[page * 4096 + page % 4096] == (unsigned char)(page * 7 + who), "huge page %d, %lu", who, page);
}

static int kernel_page_kib(unsigned char *at)
{
	char line[300];
	unsigned long start, end;
	int kib = 0, is_it = 0;
	FILE *smaps = fopen("/proc/self/smaps", "r");
	while (fgets(line, sizeof line, smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			is_it = start == (unsigned long)at;
		else if (is_it && sscanf(line, "KernelPageSize: %d", &kib) == 1)
			break;
	}
	fclose(smaps);
	return kib;
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	unsigned char *own = map(MAP_PRIVATE), *shared = map(MAP_SHARED), *twice = map(MAP_SHARED), *again = NULL;
	if (!own || !shared || !twice)
		victim_say("without: huge pages of a pool");
	else
		again = mremap(twice, 0, HUGE, MREMAP_MAYMOVE);
	fill(own, 1);
	fill(shared, 2);
	fill(twice, 3);
	victim_ready();
	victim_wait();
	check(own, 1);
	check(shared, 2);
	check(twice, 3);
	unsigned char *all[] = {own, shared, twice};
	for (int which = 0; which < 3; which++)
		CHECK(!all[which] || kernel_page_kib(all[which]) == 2048, "pages of %d KiB", kernel_page_kib(all[which]));
	if (again && again != MAP_FAILED) {
		again[5] = 77;
		CHECK(twice[5] == 77, "the second mapping is of something else");
	}
	return victim_pass();
}
