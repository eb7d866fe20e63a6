/*
 * Orphans in sessions that their new parent is not of: one whose leader has gone, one whose leader lives beside them. And a
 * child whose parent has begun a session of its own since.
 */
#include "victim.h"
#include <sys/prctl.h>
#include <sys/wait.h>

enum { PLAIN, OWN_GROUP, BROTHER, LEADER, LEFT, STAYED, COUNT };

struct seen {
	volatile pid_t pid, ppid, pgid, sid;
	volatile int ready, done, right;
};

static volatile int *asked;
static struct seen *all;

static void live(int who, pid_t parent)
{
	while (getppid() != parent)
		usleep(1000);
	struct seen *seen = &all[who];
	*seen = (struct seen){getpid(), getppid(), getpgrp(), getsid(0), 1, 0, 0};
	while (!*asked)
		usleep(5000);
	seen->right = getpid() == seen->pid && getppid() == seen->ppid && getpgrp() == seen->pgid && getsid(0) == seen->sid;
	seen->done = 1;
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	void *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	asked = shared;
	all = (struct seen *)((char *)shared + 64);
	pid_t self = getpid();
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));

	pid_t gone = MUST(fork());
	if (!gone) {
		setsid();
		if (!fork())
			live(PLAIN, self);
		if (!fork()) {
			setpgid(0, 0);
			live(OWN_GROUP, self);
		}
		_exit(0);
	}
	MUST(waitpid(gone, NULL, 0));
	pid_t leader = MUST(fork());
	if (!leader) {
		setsid();
		pid_t between = fork();
		if (!between) {
			if (!fork())
				live(BROTHER, self);
			_exit(0);
		}
		waitpid(between, NULL, 0);
		live(LEADER, self);
	}
	if (!MUST(fork())) {
		pid_t left = getpid();
		if (!fork())
			live(STAYED, left);
		while (!all[STAYED].ready)
			usleep(1000);
		setsid();
		live(LEFT, self);
	}
	for (int who = 0; who < COUNT; who++)
		while (!all[who].ready)
			usleep(1000);
	victim_ready();
	victim_wait();

	CHECK(all[PLAIN].sid == gone && all[PLAIN].pgid == gone && all[OWN_GROUP].sid == gone, "the set-up");
	CHECK(all[OWN_GROUP].pgid == all[OWN_GROUP].pid && all[BROTHER].sid == leader, "the set-up");
	CHECK(all[LEFT].sid == all[LEFT].pid && all[STAYED].sid == getsid(0) && all[STAYED].ppid == all[LEFT].pid, "the set-up");
	*asked = 1;
	for (int who = 0; who < COUNT; who++) {
		while (!all[who].done)
			usleep(1000);
		CHECK(all[who].right, "process %d has another parent, group or session", who);
	}
	for (int who = 0; who < COUNT; who++) {
		pid_t pid = all[who].pid;
		MUST(kill(pid, SIGKILL));
		CHECK(waitpid(pid, NULL, 0) == pid, "process %d is not ours", who);
	}
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "somebody else is ours");
	return victim_pass();
}
