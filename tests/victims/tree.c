/*
 * A tree: children in groups and sessions of their own, a group whose leader has gone, the dead, and what they share: a pipe
 * with data, an offset, anonymous memory, a memfd, an eventfd, pages that were never written since the fork.
 */
#include "victim.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#define PAGES 2048
#define PAGE 4096
enum { PLAIN, OWN_GROUP, OWN_SESSION, GRANDCHILD, ORPHAN_OF_GROUP, CHILDREN };

struct shared {
	volatile int asked;
	volatile int done[CHILDREN];
	volatile pid_t pid[CHILDREN], pgid[CHILDREN], sid[CHILDREN], ppid[CHILDREN];
	char why[CHILDREN][200];
};

static struct shared *shared;
static unsigned char *pages;
static int data[2], counter, memory, file, poller;
static volatile sig_atomic_t told;

static void on_child(int number)
{
	(void)number;
	told++;
}

static unsigned char pattern(int page, int who)
{
	return page * 13 + who;
}

/* Pages that the fork gave, one that this child has written, one that it has thrown away. */
static const char *check_pages(int who)
{
	for (int page = 0; page < PAGES; page++) {
		unsigned char wanted = page == 100 + who ? pattern(page, who + 1) : page == 50 ? 0 : pattern(page, 0);
		if (pages[page * PAGE] != wanted || pages[page * PAGE + PAGE - 1] != wanted)
			return "a page has the wrong content";
	}
	return NULL;
}

/* Kilobytes of these pages that nobody else has. */
static int private_kib(void)
{
	char line[300];
	unsigned long start, end;
	int kib = 0, part, is_it = 0;
	FILE *smaps = fopen("/proc/self/smaps", "r");
	while (fgets(line, sizeof line, smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			is_it = start <= (unsigned long)pages && (unsigned long)pages < end;
		else if (is_it && (sscanf(line, "Private_Dirty: %d", &part) == 1 || sscanf(line, "Private_Clean: %d", &part) == 1))
			kib += part;
	}
	fclose(smaps);
	return kib;
}

static const char *check_child(int who)
{
	static char why[100];
	const char *wrong = check_pages(who);
	if (wrong)
		return wrong;
	if (getpid() != shared->pid[who] || getppid() != shared->ppid[who])
		return "another pid or parent";
	if (getpgrp() != shared->pgid[who] || getsid(0) != shared->sid[who])
		return "another group or session";
	if (private_kib() > 64) {
		snprintf(why, sizeof why, "%d KiB are no longer shared with the parent", private_kib());
		return why;
	}
	if (who == PLAIN) {
		uint64_t value = 0;
		struct epoll_event event;
		if (epoll_wait(poller, &event, 1, 0) != 1 || event.data.u32 != 5)
			return "the epoll of the parent tells nothing";
		if (read(counter, &value, 8) != 8 || value != 9)
			return "the eventfd of the parent";
		if (write(counter, &value, 8) != 8)
			return "the eventfd cannot be written";
		char text[10] = {0};
		if (read(data[0], text, 5) != 5 || strcmp(text, "first"))
			return "the pipe of the parent";
		if (pread(memory, text, 6, 0) != 6 || memcmp(text, "memfd", 6))
			return "the memfd of the parent";
		if (write(file, "child", 5) != 5)
			return "the file of the parent";
	}
	return NULL;
}

static void child(int who)
{
	if (who == OWN_GROUP)
		setpgid(0, 0);
	if (who == OWN_SESSION) {
		setsid();
		shared->pid[who] = getpid();
		pid_t pid = fork();
		if (!pid)
			child(GRANDCHILD);
	}
	memset(pages + (100 + who) * PAGE, pattern(100 + who, who + 1), PAGE);
	madvise(pages + 50 * PAGE, PAGE, MADV_DONTNEED);
	shared->ppid[who] = getppid();
	shared->pgid[who] = getpgrp();
	shared->sid[who] = getsid(0);
	shared->pid[who] = getpid();
	while (!shared->asked)
		usleep(5000);
	const char *wrong = check_child(who);
	if (wrong)
		snprintf(shared->why[who], sizeof shared->why[who], "child %d: %s", who, wrong);
	shared->done[who] = 1;
	for (;;)
		pause();
}

static pid_t start(int who)
{
	pid_t pid = MUST(fork());
	if (!pid)
		child(who);
	return pid;
}

static pid_t dead(int status, int by)
{
	pid_t pid = MUST(fork());
	if (!pid) {
		if (by)
			raise(by);
		_exit(status);
	}
	siginfo_t info;
	MUST(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	return pid;
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	signal(SIGCHLD, on_child);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int page = 0; page < PAGES; page++)
		memset(pages + page * PAGE, pattern(page, 0), PAGE);
	MUST(pipe(data));
	MUST(write(data[1], "firstsecond", 11));
	counter = MUST(eventfd(9, 0));
	poller = MUST(epoll_create1(0));
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = 5};
	MUST(epoll_ctl(poller, EPOLL_CTL_ADD, data[0], &event));
	memory = MUST(memfd_create("tree", 0));
	MUST(write(memory, "memfd", 6));
	file = MUST(open(victim_beside("shared-file"), O_RDWR | O_CREAT, 0600));
	MUST(write(file, "parent", 6));

	pid_t plain = start(PLAIN), group = start(OWN_GROUP), session = start(OWN_SESSION);
	pid_t leader = MUST(fork());
	if (!leader)
		for (;;)
			pause();
	MUST(setpgid(leader, leader));
	pid_t orphan = MUST(fork());
	if (!orphan) {
		setpgid(0, leader);
		child(ORPHAN_OF_GROUP);
	}
	for (int who = 0; who < CHILDREN; who++)
		while (!shared->pid[who] || !shared->ppid[who])
			usleep(1000);
	MUST(kill(leader, SIGKILL));
	MUST(waitpid(leader, NULL, 0));
	pid_t ended = dead(7, 0), killed = dead(0, SIGTERM);
	told = 0;
	victim_ready();
	victim_wait();

	CHECK(told == 0, "%d signals of children that ended long ago", told);
	CHECK(getpgid(group) == group && getsid(session) == session && getpgid(orphan) == leader, "groups");
	char before[10] = {0};
	shared->asked = 1;
	for (int who = 0; who < CHILDREN; who++) {
		while (!shared->done[who])
			usleep(1000);
		CHECK(!shared->why[who][0], "%s", shared->why[who]);
	}
	CHECK(lseek(file, 0, SEEK_CUR) == 11, "the offset of the file is not shared: %ld", lseek(file, 0, SEEK_CUR));
	CHECK(pread(file, before, 6, 0) == 6 && !strcmp(before, "parent"), "the file");
	uint64_t value = 0;
	CHECK(read(counter, &value, 8) == 8 && value == 9, "the eventfd is not shared");
	CHECK(read(data[0], before, 6) == 6 && !strcmp(before, "second"), "the pipe is not shared");
	int status;
	CHECK(waitpid(ended, &status, 0) == ended && WIFEXITED(status) && WEXITSTATUS(status) == 7, "status of one that ended");
	CHECK(waitpid(killed, &status, 0) == killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "status of one that was killed");
	MUST(kill(shared->pid[GRANDCHILD], SIGKILL));
	pid_t all[] = {plain, group, session, orphan};
	for (int at = 0; at < 4; at++) {
		MUST(kill(all[at], SIGKILL));
		CHECK(waitpid(all[at], &status, 0) == all[at] && WIFSIGNALED(status), "child %d is not ours", all[at]);
	}
	return victim_pass();
}
