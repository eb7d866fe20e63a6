/*
 * Contexts of asynchronous I/O: numbers with gaps, events that nobody has read, rings that have gone round, a full one; told by
 * what the ring says and by what the kernel does with it. With `forked` a child keeps its parent's ring.
 */
#include "victim.h"
#include <linux/aio_abi.h>

#define RINGS 4

struct ring {
	unsigned id, events, head, tail;
};

static aio_context_t contexts[RINGS], gone;
static struct ring before[RINGS];
static int file;
static unsigned room[RINGS];

static volatile struct ring *ring(int at)
{
	return (struct ring *)contexts[at];
}

/* Writes of one byte, which tell in their events which they were. */
static int submit(int at, unsigned first, unsigned count)
{
	struct iocb iocb = {.aio_fildes = file, .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_buf = (uint64_t) "x", .aio_nbytes = 1};
	struct iocb *one = &iocb;
	for (unsigned done = 0; done < count; done++) {
		iocb.aio_data = first + done;
		iocb.aio_offset = done;
		if (syscall(SYS_io_submit, contexts[at], 1, &one) != 1)
			return done;
	}
	return count;
}

static void reap(int at, unsigned first, unsigned count)
{
	struct timespec now = {0};
	for (unsigned done = 0; done < count; done++) {
		struct io_event event;
		long got = syscall(SYS_io_getevents, contexts[at], 1, 1, &event, &now);
		CHECK(got == 1, "context %d: event %u of %u: %ld %s", at, done, count, got, strerror(errno));
		CHECK(event.data == first + done && event.res == 1, "context %d: event %u is %llu, of %lld bytes", at, first + done,
		      event.data, event.res);
	}
}

static void none(int at)
{
	struct io_event event;
	struct timespec now = {0};
	CHECK(syscall(SYS_io_getevents, contexts[at], 1, 1, &event, &now) == 0, "context %d has an event too many", at);
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	file = MUST(open(victim_beside("file"), O_RDWR | O_CREAT, 0600));
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	/* Places are set aside for each processor: on one alone a ring has the same room every time. */
	MUST(sched_setaffinity(0, sizeof one, &one));
	MUST(syscall(SYS_io_setup, 128, &contexts[0]));
	MUST(syscall(SYS_io_setup, 1, &gone));
	MUST(syscall(SYS_io_setup, 8, &contexts[1]));
	MUST(syscall(SYS_io_setup, 62, &contexts[2]));
	MUST(syscall(SYS_io_setup, 1000, &contexts[3]));
	MUST(syscall(SYS_io_destroy, gone));
	/* The first has three events, the second has gone round, the third is full, the last was never used. */
	submit(0, 1000, 5);
	reap(0, 1000, 2);
	for (int round = 0; round < 3; round++) {
		submit(1, 100 * round, 50);
		reap(1, 100 * round, round == 2 ? 10 : 50);
	}
	CHECK(ring(1)->tail < ring(1)->head, "set-up: the ring has not gone round: %u %u", ring(1)->head, ring(1)->tail);
	submit(2, 0, 70);
	reap(2, 0, 70);
	room[2] = submit(2, 70, 1000);
	CHECK(room[2] > 62 && errno == EAGAIN, "set-up: room for %u", room[2]);
	for (int at = 0; at < RINGS; at++)
		before[at] = *ring(at);
	CHECK(before[0].id == 0 && before[1].id == 2 && before[3].id == 4, "set-up: numbers of contexts");
	if (argc > 2 && !strcmp(argv[2], "forked") && !MUST(fork())) {
		for (;;)
			pause();
	}
	victim_ready();
	victim_wait();
	for (int at = 0; at < RINGS; at++)
		CHECK(!memcmp(&before[at], (void *)ring(at), sizeof before[at]), "ring %d: %u %u %u %u, wanted %u %u %u %u", at,
		      ring(at)->id, ring(at)->events, ring(at)->head, ring(at)->tail, before[at].id, before[at].events,
		      before[at].head, before[at].tail);
	CHECK(submit(2, 9999, 1) == 0 && errno == EAGAIN, "a full ring takes one more");
	reap(0, 1002, 3);
	reap(1, 210, 40);
	reap(2, 70, room[2]);
	for (int at = 0; at < RINGS; at++)
		none(at);
	/* Each is what it was for the kernel: it takes as much as before, and all of it comes out again. */
	for (int round = 0; round < 10; round++) {
		unsigned took = submit(2, 7, 1000);
		CHECK(took == room[2], "room for %u, not %u", took, room[2]);
		reap(2, 7, took);
		CHECK(submit(1, 5, 60) == 60, "the second context takes no more");
		reap(1, 5, 60);
	}
	CHECK(submit(3, 0, 1000) == 1000, "a context that was not used");
	reap(3, 0, 1000);
	gone = 0;
	MUST(syscall(SYS_io_setup, 1, &gone));
	CHECK(*(unsigned *)gone == 1, "the next context has number %u", *(unsigned *)gone);
	for (int at = 0; at < RINGS; at++)
		CHECK(syscall(SYS_io_destroy, contexts[at]) == 0, "context %d: %s", at, strerror(errno));
	cpu_set_t seen;
	sched_getaffinity(0, sizeof seen, &seen);
	CHECK(CPU_EQUAL(&seen, &one), "processors");
	return victim_pass();
}
