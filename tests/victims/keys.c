/*
 * Protection keys: allocated ones, with gaps between; areas that have them, one with a key that was freed since, one for
 * execution only with a key of the program's beside one with that of the kernel; rights that differ by thread; a child that has
 * them too. Each key is where it was, and what may be done with each area is what it was.
 */
#include "victim.h"
#include <setjmp.h>
#include <sys/wait.h>

enum { NONE, WRITE_NOT, TOUCH_NOT, SHARED, LEFT, ONLY, KERNELS, AREAS };
#define LEN (64 << 12)

static const uint8_t CODE[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov $42, %eax; ret */
static uint8_t *areas[AREAS];
static int keys[AREAS], highest;
static int may[2][AREAS];
static __thread sigjmp_buf back;
static pthread_barrier_t asked;

static void on_fault(int number)
{
	(void)number;
	siglongjmp(back, 1);
}

static uint32_t all_rights(void)
{
	uint32_t rights, high;
	__asm__ volatile("rdpkru" : "=a"(rights), "=d"(high) : "c"(0));
	return rights;
}

/* A handler runs with the rights of a new program, and keeps them where it does not return. */
static void set_rights(uint32_t rights)
{
	__asm__ volatile("wrpkru" : : "a"(rights), "c"(0), "d"(0) : "memory");
}

/* 1 it may be read, 2 it may be written. The last page was never written before. */
static int rights(volatile uint8_t *at)
{
	volatile uint32_t own = all_rights();
	volatile int all = 0;
	if (!sigsetjmp(back, 1)) {
		(void)*(at + LEN - 4096);
		all |= 1;
	}
	set_rights(own);
	if (!sigsetjmp(back, 1)) {
		*(at + LEN - 1) = 0;
		all |= 2;
	}
	set_rights(own);
	return all;
}

static void look(int who, int *seen)
{
	for (int i = 0; i < AREAS; i++)
		seen[i] = rights(areas[i]);
	CHECK(((int (*)(void))areas[ONLY])() == 42 && ((int (*)(void))areas[KERNELS])() == 42, "the code in thread %d", who);
}

static void compare(int who)
{
	int seen[AREAS];
	look(who, seen);
	for (int i = 0; i < AREAS; i++)
		CHECK(seen[i] == may[who][i], "what it may do in thread %d with area %d is %d, was %d", who, i, seen[i], may[who][i]);
}

static int key_of(const void *area)
{
	char line[300];
	unsigned long start, end;
	int found = 0, key = -1;
	FILE *smaps = fopen("/proc/self/smaps", "r");
	while (key < 0 && fgets(line, sizeof line, smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			found = start <= (uintptr_t)area && (uintptr_t)area < end;
		if (found && sscanf(line, "ProtectionKey: %d", &key) == 1)
			break;
	}
	fclose(smaps);
	return key;
}

static void *second(void *unused)
{
	(void)unused;
	pkey_set(keys[WRITE_NOT], 0);
	pkey_set(keys[SHARED], PKEY_DISABLE_WRITE);
	look(1, may[1]);
	pthread_barrier_wait(&asked);
	pthread_barrier_wait(&asked);
	compare(1);
	return NULL;
}

static void check_keys(const char *who)
{
	for (int i = 0; i < AREAS; i++)
		CHECK(key_of(areas[i]) == keys[i], "%s: area %d has key %d, had %d", who, i, key_of(areas[i]), keys[i]);
	pkey_set(keys[TOUCH_NOT], 0);
	for (int i = WRITE_NOT; i < LEFT; i++)
		for (int page = 0; page < 32; page++)
			CHECK(areas[i][page << 12] == page + i, "%s: the content of area %d", who, i);
	/* Those that are free are given in their order: that which was freed, and that above all. */
	CHECK(pkey_alloc(0, 0) == keys[LEFT], "%s: the key that was freed", who);
	CHECK(pkey_alloc(0, 0) == highest + 1, "%s: a key above all", who);
	CHECK(pkey_free(keys[KERNELS]) == -1 && !pkey_free(keys[SHARED]), "%s: which keys are whose", who);
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	signal(SIGSEGV, on_fault);
	for (int i = 0; i < AREAS; i++) {
		int flags = MAP_ANONYMOUS | (i == SHARED ? MAP_SHARED : MAP_PRIVATE);
		areas[i] = mmap(NULL, LEN, PROT_READ | PROT_WRITE, flags, -1, 0);
		CHECK(areas[i] != MAP_FAILED, "set-up: mmap: %s", strerror(errno));
		if (i < ONLY)
			for (int page = 0; page < 32; page++)
				areas[i][page << 12] = page + i;
		else
			memcpy(areas[i], CODE, sizeof CODE);
		if (i != NONE && i != KERNELS) {
			keys[i] = MUST(pkey_alloc(0, i == WRITE_NOT ? PKEY_DISABLE_WRITE : i == TOUCH_NOT ? PKEY_DISABLE_ACCESS : 0));
			int prot = i == ONLY ? PROT_EXEC : PROT_READ | PROT_WRITE;
			MUST(pkey_mprotect(areas[i], LEN, prot, keys[i]));
		}
	}
	MUST(mprotect(areas[KERNELS], LEN, PROT_EXEC));
	keys[KERNELS] = key_of(areas[KERNELS]);
	CHECK(keys[KERNELS] > 0, "set-up: the kernel's key");
	highest = MUST(pkey_alloc(0, 0));
	MUST(pkey_free(keys[LEFT]));
	look(0, may[0]);
	CHECK(may[0][WRITE_NOT] == 1 && may[0][TOUCH_NOT] == 0 && may[0][SHARED] == 3, "set-up: the rights");
	pthread_barrier_init(&asked, NULL, 2);
	pthread_t thread;
	CHECK(!pthread_create(&thread, NULL, second, NULL), "set-up: pthread_create");
	pthread_barrier_wait(&asked);
	/* A child that has them too, and looks when its parent writes to it. */
	int request[2];
	MUST(pipe(request));
	pid_t child = MUST(fork());
	if (!child) {
		char byte;
		close(request[1]);
		if (read(request[0], &byte, 1) != 1)
			_exit(1);
		compare(0);
		check_keys("the child");
		_exit(0);
	}
	close(request[0]);
	victim_ready();
	victim_wait();
	compare(0);
	pthread_barrier_wait(&asked);
	pthread_join(thread, NULL);
	check_keys("the parent");
	int status;
	CHECK(write(request[1], "x", 1) == 1 && waitpid(child, &status, 0) == child && !status, "the child: %x", status);
	return victim_pass();
}
