/* Kinds of mappings: content, protection and advice, as /proc/self/smaps tells them. */
#include "victim.h"
#include <setjmp.h>

#define PAGE 4096UL
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

enum { SHARED, COW, SHARED_FILE, NONE, READ_ONLY, MIXED, DONTFORK, DONTDUMP, WIPE, HUGE, NOHUGE, LOCKED, ONFAULT, GUARDED,
       GROWS, SPARSE, RANDOM, SEQUENTIAL, COUNT };
static const char *const names[COUNT] = {
	"shared anonymous", "private file", "shared file", "PROT_NONE", "read-only", "mixed", "MADV_DONTFORK", "MADV_DONTDUMP",
	"MADV_WIPEONFORK", "MADV_HUGEPAGE", "MADV_NOHUGEPAGE", "mlock", "mlock2 on fault", "guarded", "MAP_GROWSDOWN", "sparse",
	"MADV_RANDOM", "MADV_SEQUENTIAL",
};
static unsigned char *areas[COUNT];
static char before[COUNT][64];
static sigjmp_buf jump;

static void on_fault(int number)
{
	siglongjmp(jump, number);
}

static int faults(volatile unsigned char *at)
{
	int number = sigsetjmp(jump, 1);
	if (!number)
		(void)*at;
	return number;
}

/* Protection and the flags that a program set, of the mapping that holds `at`. */
static void describe(unsigned char *at, char *words)
{
	static const char *const wanted = "rd wr ex sh gd lo lf sr rr dc dd hg nh wf";
	char line[700];
	unsigned long from, to;
	int inside = 0;
	FILE *smaps = fopen("/proc/self/smaps", "r");
	words[0] = 0;
	while (smaps && fgets(line, sizeof line, smaps)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2 && strchr(line, '-') < line + 17)
			inside = (unsigned long)at >= from && (unsigned long)at < to;
		else if (inside && !strncmp(line, "VmFlags:", 8))
			for (char *word = strtok(line + 8, " \n"); word; word = strtok(NULL, " \n"))
				if (strstr(wanted, word))
					strcat(strcat(words, word), " ");
	}
	if (smaps)
		fclose(smaps);
}

static unsigned char *anonymous(int pages, int more)
{
	void *area = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | more, -1, 0);
	CHECK(area != MAP_FAILED, "set-up: mmap: %s", strerror(errno));
	return area;
}

static void fill(unsigned char *area, int pages, int seed)
{
	for (unsigned long at = 0; at < pages * PAGE; at++)
		area[at] = at * 13 + at / PAGE + seed;
}

static void check_filled(int which, int pages)
{
	for (unsigned long at = 0; at < pages * PAGE; at++)
		CHECK(areas[which][at] == (unsigned char)(at * 13 + at / PAGE + which), "%s: byte %lu", names[which], at);
}

static void map_files(void)
{
	unsigned char page[PAGE];
	memset(page, 'f', PAGE);
	int fd = MUST(open(victim_beside("mapped"), O_RDWR | O_CREAT | O_TRUNC, 0600));
	for (int at = 0; at < 8; at++)
		MUST(write(fd, page, PAGE));
	areas[COW] = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 2 * PAGE);
	areas[SHARED_FILE] = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 6 * PAGE);
	CHECK(areas[COW] != MAP_FAILED && areas[SHARED_FILE] != MAP_FAILED, "set-up: mmap of a file");
	MUST(close(fd));
	areas[COW][PAGE + 5] = 'c';
	areas[SHARED_FILE][9] = 's';
}

static void advise(int which, int advice)
{
	areas[which] = anonymous(4, MAP_PRIVATE);
	MUST(madvise(areas[which], 4 * PAGE, advice));
	fill(areas[which], 4, which);
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	signal(SIGSEGV, on_fault);
	map_files();
	areas[SHARED] = anonymous(16, MAP_SHARED);
	fill(areas[SHARED], 16, SHARED);
	areas[NONE] = anonymous(4, MAP_PRIVATE);
	fill(areas[NONE], 4, NONE);
	MUST(mprotect(areas[NONE], 4 * PAGE, PROT_NONE));
	areas[READ_ONLY] = anonymous(4, MAP_PRIVATE);
	fill(areas[READ_ONLY], 4, READ_ONLY);
	MUST(mprotect(areas[READ_ONLY], 4 * PAGE, PROT_READ));
	areas[MIXED] = anonymous(6, MAP_PRIVATE);
	fill(areas[MIXED], 6, MIXED);
	MUST(mprotect(areas[MIXED] + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_EXEC));
	advise(DONTFORK, MADV_DONTFORK);
	advise(DONTDUMP, MADV_DONTDUMP);
	advise(WIPE, MADV_WIPEONFORK);
	areas[HUGE] = anonymous(4, MAP_PRIVATE);
	int huge = madvise(areas[HUGE], 4 * PAGE, MADV_HUGEPAGE) == 0 && madvise(areas[HUGE], 4 * PAGE, MADV_HUGEPAGE) == 0;
	areas[NOHUGE] = anonymous(4, MAP_PRIVATE);
	huge &= madvise(areas[NOHUGE], 4 * PAGE, MADV_NOHUGEPAGE) == 0;
	advise(RANDOM, MADV_RANDOM);
	advise(SEQUENTIAL, MADV_SEQUENTIAL);
	areas[LOCKED] = anonymous(4, MAP_PRIVATE);
	fill(areas[LOCKED], 4, LOCKED);
	MUST(mlock(areas[LOCKED], 4 * PAGE));
	areas[ONFAULT] = anonymous(4, MAP_PRIVATE);
	MUST(mlock2(areas[ONFAULT], 4 * PAGE, MLOCK_ONFAULT));
	areas[GUARDED] = anonymous(6, MAP_PRIVATE);
	fill(areas[GUARDED], 6, GUARDED);
	int guards = madvise(areas[GUARDED] + 2 * PAGE, PAGE, MADV_GUARD_INSTALL) == 0;
	areas[GROWS] = anonymous(2, MAP_PRIVATE | MAP_GROWSDOWN);
	fill(areas[GROWS], 2, GROWS);
	areas[SPARSE] = anonymous(256, MAP_PRIVATE | MAP_NORESERVE);
	areas[SPARSE][200 * PAGE + 3] = 9;
	for (int which = 0; which < COUNT; which++)
		describe(areas[which], before[which]);
	void *heap_end = sbrk(0);
	if (!huge || !guards)
		victim_say("without:%s%s", huge ? "" : " huge pages", guards ? "" : " guard regions");
	victim_ready();
	victim_wait();

	for (int which = 0; which < COUNT; which++) {
		char now[64];
		describe(areas[which], now);
		CHECK(!strcmp(now, before[which]), "%s at %p: flags [%s], were [%s]", names[which], areas[which], now,
		      before[which]);
	}
	check_filled(SHARED, 16);
	CHECK(areas[COW][PAGE + 5] == 'c' && areas[COW][0] == 'f' && areas[COW][4 * PAGE - 1] == 'f', "private file");
	CHECK(areas[SHARED_FILE][9] == 's' && areas[SHARED_FILE][10] == 'f', "shared file");
	areas[SHARED_FILE][10] = 't';
	unsigned char byte = 0;
	int fd = MUST(open(victim_beside("mapped"), O_RDONLY));
	CHECK(pread(fd, &byte, 1, 6 * PAGE + 10) == 1 && byte == 't', "a write to the shared mapping misses the file");
	CHECK(pread(fd, &byte, 1, 3 * PAGE + 5) == 1 && byte == 'f', "a private page went to the file");
	CHECK(faults(areas[NONE]) == SIGSEGV, "PROT_NONE can be read");
	MUST(mprotect(areas[NONE], 4 * PAGE, PROT_READ));
	check_filled(NONE, 4);
	check_filled(READ_ONLY, 4);
	check_filled(MIXED, 6);
	check_filled(DONTFORK, 4);
	check_filled(DONTDUMP, 4);
	check_filled(WIPE, 4);
	check_filled(RANDOM, 4);
	check_filled(SEQUENTIAL, 4);
	check_filled(LOCKED, 4);
	check_filled(GROWS, 2);
	for (int page = 0; page < 6; page++) {
		int guarded = guards && page == 2;
		CHECK(!!faults(areas[GUARDED] + page * PAGE) == guarded, "guard: page %d", page);
		CHECK(guarded || areas[GUARDED][page * PAGE + 1] == (unsigned char)(13 + page + GUARDED), "guarded: page %d",
		      page);
	}
	CHECK(areas[SPARSE][200 * PAGE + 3] == 9 && areas[SPARSE][100 * PAGE] == 0, "sparse");
	CHECK(sbrk(0) == heap_end, "the heap ends at %p, ended at %p", sbrk(0), heap_end);
	CHECK(sbrk(8192) == heap_end, "the heap does not grow: %s", strerror(errno));
	return victim_pass();
}
