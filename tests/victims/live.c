/*
 * Memory that is written at full speed, so that a dump which is not of one instant is found out. A thread has an area of each
 * kind, and goes over its pages again and again: it looks that a page has the number of the round before, at three places, and
 * writes that of this one. Of one instant all pages before the thread's place have this round's number, and all from there on
 * the last one's. It is one thing after the restore too: areas, registers and stacks are of the same moment.
 *
 * Meanwhile others look that nothing of a copy shows: no child and no signal of one, and the end of a pipe is seen at once.
 */
#include "victim.h"
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define PAGE 4096
#define PAGES 640
#define COMMON 512 /* pages that a child has as its parent has them */

static const char *names[] = {"private", "shared", "kept from forks", "emptied by forks", "of a file", "of a memfd",
			      "filled by read"};
#define AREAS (int)(sizeof names / sizeof *names)

struct area {
	volatile char *at;
	volatile unsigned long rounds;
};

static struct area areas[AREAS];
static char *common;
static int memfd, number_file;
static volatile unsigned long looks;
static int is_all_copied;
static volatile sig_atomic_t signals;

static unsigned long *word(struct area *area, int page, int place)
{
	static const int offsets[] = {8, 2048, 4080};
	return (unsigned long *)(area->at + page * PAGE + offsets[place]);
}

static void write_page(int kind, int page, unsigned long round)
{
	struct area *area = &areas[kind];
	if (kind == 6) {
		/* The kernel writes it. */
		static char bytes[PAGE];
		for (int place = 0; place < 3; place++)
			*(unsigned long *)(bytes + ((char *)word(area, 0, place) - area->at)) = round;
		CHECK(pwrite(number_file, bytes, PAGE, 0) == PAGE, "pwrite: %s", strerror(errno));
		CHECK(pread(number_file, (char *)area->at + page * PAGE, PAGE, 0) == PAGE, "pread: %s", strerror(errno));
		return;
	}
	for (int place = 0; place < 3; place++)
		*(volatile unsigned long *)word(area, page, place) = round;
}

static void *write_area(void *argument)
{
	int kind = (struct area *)argument - areas;
	struct area *area = argument;
	for (unsigned long round = 1;; round++) {
		for (int page = 0; page < PAGES; page++) {
			for (int place = 0; place < 3; place++) {
				unsigned long found = *(volatile unsigned long *)word(area, page, place);
				CHECK(found == round - 1, "memory %s: page %d has %lu at place %d, in round %lu",
				      names[kind], page, found, place, round);
			}
			write_page(kind, page, round);
		}
		area->rounds = round;
	}
	return NULL;
}

/* A copy that had the descriptors open would keep the pipe from its end: each would. The kernel has the first of them open for a moment
 * while it makes the copy a table without any, which a busy machine may make longer. */
static void *end_pipes(void *argument)
{
	int late = 0;
	(void)argument;
	for (;; looks++) {
		int ends[2];
		CHECK(!pipe(ends), "pipe: %s", strerror(errno));
		usleep(500);
		close(ends[1]);
		struct pollfd poll_end = {.fd = ends[0], .events = POLLIN};
		late += poll(&poll_end, 1, 0) != 1;
		CHECK(late < 3 && poll(&poll_end, 1, 10000) == 1 && poll_end.revents == POLLHUP,
		      "the end of a pipe is not seen: %#x, %d times", poll_end.revents, late);
		close(ends[0]);
	}
	return NULL;
}

/* No child comes to be but those that are known. */
static void look_for_children(void)
{
	int status;
	pid_t found = waitpid(-1, &status, __WALL | WNOHANG);
	CHECK(found <= 0, "a child that nobody made: %d", found);
	CHECK(!signals, "SIGCHLD came %d times", (int)signals);
}

static void on_child(int number)
{
	(void)number;
	signals++;
}

static void *map(int kind)
{
	size_t len = PAGES * PAGE;
	int flags = kind == 1 || kind == 5 ? MAP_SHARED : MAP_PRIVATE;
	int fd = kind == 4 ? open(victim_beside("mapped"), O_RDWR | O_CREAT, 0600) : kind == 5 ? memfd : -1;
	if (kind == 4)
		MUST(ftruncate(fd, len));
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, flags | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
	CHECK(at != MAP_FAILED, "mmap: %s", strerror(errno));
	if (kind == 2 && !is_all_copied)
		MUST(madvise(at, len, MADV_DONTFORK));
	if (kind == 3 && !is_all_copied)
		MUST(madvise(at, len, MADV_WIPEONFORK));
	if (kind == 4)
		close(fd);
	return at;
}

static void start(int first, int last)
{
	memfd = MUST(memfd_create("area", 0));
	MUST(ftruncate(memfd, PAGES * PAGE));
	number_file = MUST(memfd_create("number", 0));
	for (int kind = first; kind < last; kind++) {
		areas[kind].at = map(kind);
		pthread_t thread;
		CHECK(!pthread_create(&thread, NULL, write_area, &areas[kind]), "pthread_create");
	}
	pthread_t thread;
	CHECK(!pthread_create(&thread, NULL, end_pipes, NULL), "pthread_create");
}

static void check_common(void)
{
	for (unsigned long page = 0; page < COMMON; page++)
		for (unsigned long at = 0; at < PAGE; at += 512)
			CHECK(*(unsigned long *)(common + page * PAGE + at) == page * 31 + at + 1, "page %lu in common", page);
}

/* Every thread has gone over its area once more. */
static void check_rounds(int first, int last)
{
	unsigned long before[AREAS], looks_before = looks;
	for (int kind = first; kind < last; kind++)
		before[kind] = areas[kind].rounds;
	for (int kind = first; kind < last; kind++)
		while (areas[kind].rounds < before[kind] + 2)
			usleep(1000);
	while (looks < looks_before + 2)
		usleep(1000);
	check_common();
}

static void nobodys_child(pid_t parent, int last)
{
	/* It tells by its life whether it is well. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	start(0, last);
	sigset_t mask;
	sigfillset(&mask);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	for (;;) {
		check_common();
		usleep(5000);
	}
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	/* At full speed, but not so that whoever dumps it gets no processor. */
	MUST(setpriority(PRIO_PROCESS, 0, 15));
	const char *mode = argc > 2 ? argv[2] : "";
	is_all_copied = !strcmp(mode, "copied");
	int is_tree = !strcmp(mode, "tree"), is_limited = !strcmp(mode, "limited"), last = is_limited ? 1 : AREAS;
	common = mmap(NULL, COMMON * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned long page = 0; page < COMMON; page++)
		for (unsigned long at = 0; at < PAGE; at += 512)
			*(unsigned long *)(common + page * PAGE + at) = page * 31 + at + 1;
	struct sigaction action = {.sa_handler = on_child, .sa_flags = SA_RESTART};
	sigaction(SIGCHLD, &action, NULL);
	if (is_tree) {
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		pid_t own = getpid(), child = MUST(fork());
		if (!child) {
			pid_t middle = getpid(), grandchild = MUST(fork());
			if (!grandchild)
				nobodys_child(middle, 1);
			nobodys_child(own, AREAS);
		}
	}
	start(0, last);
	if (is_limited) {
		/* Another user, of whom there are as many processes as there may be. */
		struct rlimit one = {1, 1};
		MUST(setrlimit(RLIMIT_NPROC, &one));
		MUST(setresgid(65534, 65534, 65534));
		MUST(setresuid(65534, 65534, 65534));
	}
	for (int kind = 0; kind < last; kind++)
		while (areas[kind].rounds < 2)
			usleep(1000);
	victim_ready();
	sigset_t mask;
	sigprocmask(SIG_BLOCK, NULL, &mask);
	sigdelset(&mask, SIGUSR1);
	struct timespec moment = {0, 2000000};
	while (!victim_asked) {
		look_for_children();
		ppoll(NULL, 0, &moment, &mask);
	}
	look_for_children();
	check_rounds(0, last);
	int is_subreaper = 0;
	prctl(PR_GET_CHILD_SUBREAPER, &is_subreaper);
	CHECK(is_subreaper == is_tree, "it is %sa subreaper", is_subreaper ? "" : "not ");
	return victim_pass();
}
