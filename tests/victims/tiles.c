/* AMX tiles that live in registers all the time, in a thread that asked for them; on a processor without, nothing. */
#include "victim.h"
#include <sys/prctl.h>

#define ARCH_GET_XCOMP_PERM 0x1022
#define ARCH_REQ_XCOMP_PERM 0x1023
#define TILE_DATA 18
#define ROWS 16
#define ROW 64

static unsigned char sent[ROWS * ROW], got[ROWS * ROW];
static volatile int finish, has_tiles;
static pthread_barrier_t barrier;

__attribute__((aligned(64))) static unsigned char config[64];

static void *hold(void *unused)
{
	(void)unused;
	config[0] = 1;
	config[16] = ROW;
	config[48] = ROWS;
	pthread_barrier_wait(&barrier);
	/* ldtilecfg, tileloadd tmm0, then no system call until the end: tilestored. */
	__asm__ volatile(".byte 0xc4,0xe2,0x78,0x49,0x00" ::"a"(config) : "memory");
	__asm__ volatile(".byte 0xc4,0xe2,0x7b,0x4b,0x04,0x08" ::"a"(sent), "c"((long)ROW) : "memory");
	while (!finish)
		;
	__asm__ volatile(".byte 0xc4,0xe2,0x7a,0x4b,0x04,0x08" ::"a"(got), "c"((long)ROW) : "memory");
	__asm__ volatile(".byte 0xc4,0xe2,0x78,0x49,0xc0" ::: "memory");
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	uint64_t before = 0, now = 0;
	victim_start(argc, argv);
	for (int at = 0; at < ROWS * ROW; at++)
		sent[at] = at * 11 + at / 256;
	has_tiles = syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0;
	syscall(SYS_arch_prctl, ARCH_GET_XCOMP_PERM, &before);
	pthread_barrier_init(&barrier, NULL, 2);
	if (has_tiles) {
		CHECK(!pthread_create(&thread, NULL, hold, NULL), "set-up: pthread_create");
		pthread_barrier_wait(&barrier);
		usleep(100000);
	}
	victim_ready();
	victim_wait();
	syscall(SYS_arch_prctl, ARCH_GET_XCOMP_PERM, &now);
	CHECK(now == before, "permission for state %lx, was %lx", now, before);
	finish = 1;
	if (has_tiles) {
		pthread_join(thread, NULL);
		CHECK(!memcmp(sent, got, sizeof sent), "the tile changed");
	}
	return victim_pass();
}
