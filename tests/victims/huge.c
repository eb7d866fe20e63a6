/*
 * Huge pages of a pool, private, shared, in a memfd, and shared ones mapped a second time in part. Says so where there are none.
 * Shared anonymous memory that was opened by its mapping.
 */
#include "victim.h"
#include "hugepages.h"

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

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	unsigned char *own = map(MAP_PRIVATE), *shared = map(MAP_SHARED), *twice = map(MAP_SHARED), *again = NULL;
	if (!own || !shared || !twice)
		victim_say("without: huge pages of a pool");
	else
		again = mremap(twice, 0, HUGE, MREMAP_MAYMOVE);
	int memory = memfd_create("huge", MFD_HUGETLB);
	unsigned char *file = memory < 0 || ftruncate(memory, 2 * HUGE)
				      ? MAP_FAILED
				      : mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (file == MAP_FAILED)
		file = NULL;
	fill(file, 4);
	char name[100];
	unsigned char *plain = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	strcpy((char *)plain, "opened");
	snprintf(name, sizeof name, "/proc/self/map_files/%lx-%lx", (unsigned long)plain, (unsigned long)plain + 2 * 4096);
	int opened = open(name, O_RDWR);
	unsigned char *copied = opened < 0 ? NULL : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, opened, 0);
	if (copied)
		copied[4000] = 5;
	fill(own, 1);
	fill(shared, 2);
	fill(twice, 3);
	victim_ready();
	victim_wait();
	check(own, 1);
	check(shared, 2);
	check(twice, 3);
	check(file, 4);
	struct stat st;
	CHECK(!file || (fstat(memory, &st) == 0 && st.st_size == 2 * HUGE && st.st_blksize == HUGE), "a memfd of huge pages");
	if (file) {
		file[7] = 99;
		unsigned char got = 0;
		CHECK(pread(memory, &got, 1, 7) == 1 && got == 99, "the mapping is no longer of the memfd");
	}
	if (copied) {
		char got[8] = {0};
		plain[6] = 'X';
		CHECK(pread(opened, got, 7, 0) == 7 && !strcmp(got, "openedX"), "memory that was opened: %s", got);
		CHECK(copied[4000] == 5 && plain[4000] == 0 && !memcmp(copied, "opened", 6), "a private mapping of it");
	}
	unsigned char *all[] = {own, shared, twice};
	for (int which = 0; which < 3; which++)
		CHECK(!all[which] || kernel_page_kib(all[which]) == 2048, "pages of %d KiB", kernel_page_kib(all[which]));
	if (again && again != MAP_FAILED) {
		again[5] = 77;
		CHECK(twice[5] == 77, "the second mapping is of something else");
	}
	return victim_pass();
}
