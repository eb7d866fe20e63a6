/*
 * Memory that may be executed and not read. Where the processor has protection keys the kernel takes one for it, and reading
 * fails; elsewhere it can be read. Code in it runs on, and whether each thread can read it stays as it was.
 */
#include "victim.h"
#include <setjmp.h>

#define AREAS 2

typedef int function(void);

static const uint8_t CODE[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov $42, %eax; ret */
static uint8_t *areas[AREAS];
static __thread sigjmp_buf back;
static pthread_barrier_t asked;
static int readable_before[AREAS];

static void on_fault(int number)
{
	(void)number;
	siglongjmp(back, 1);
}

static int is_readable(const uint8_t *at)
{
	if (sigsetjmp(back, 1))
		return 0;
	return *(const volatile uint8_t *)at == CODE[0];
}

static void look(const char *who)
{
	for (int i = 0; i < AREAS; i++) {
		CHECK(((function *)areas[i])() == 42, "code of area %d in %s", i, who);
		CHECK(is_readable(areas[i]) == readable_before[i], "area %d can be read by %s: %d", i, who, !readable_before[i]);
	}
}

static void *second(void *unused)
{
	(void)unused;
	pthread_barrier_wait(&asked);
	pthread_barrier_wait(&asked);
	look("the second thread");
	return NULL;
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	signal(SIGSEGV, on_fault);
	for (int i = 0; i < AREAS; i++) {
		int flags = MAP_ANONYMOUS | (i ? MAP_SHARED : MAP_PRIVATE);
		areas[i] = mmap(NULL, 8192, PROT_READ | PROT_WRITE, flags, -1, 0);
		CHECK(areas[i] != MAP_FAILED, "set-up: mmap: %s", strerror(errno));
		memcpy(areas[i], CODE, sizeof CODE);
		MUST(mprotect(areas[i], 8192, PROT_EXEC));
		readable_before[i] = is_readable(areas[i]);
	}
	pthread_barrier_init(&asked, NULL, 2);
	pthread_t thread;
	CHECK(!pthread_create(&thread, NULL, second, NULL), "set-up: pthread_create");
	pthread_barrier_wait(&asked);
	victim_ready();
	victim_wait();
	look("the first thread");
	pthread_barrier_wait(&asked);
	pthread_join(thread, NULL);
	/* What was readable can be made so again. */
	MUST(mprotect(areas[0], 8192, PROT_READ));
	CHECK(!memcmp(areas[0], CODE, sizeof CODE), "the content");
	return victim_pass();
}
