/*
 * Processes that share by flags of clone, and are no threads of one another: a working directory, descriptors, memory, signal
 * handlers, all of it, and brothers that share what their parent does not. One of them ends with a signal of its own.
 */
#include "victim.h"
#include <linux/kcmp.h>
#include <sys/wait.h>

enum { DIRECTORY, DESCRIPTORS, MEMORY, HANDLERS, EVERYTHING, ALONE, BROTHER, COUNT };

static const int flags[COUNT] = {
	CLONE_FS | SIGCHLD,
	CLONE_FILES | SIGCHLD,
	CLONE_VM | SIGCHLD,
	CLONE_VM | CLONE_SIGHAND | SIGCHLD,
	CLONE_VM | CLONE_SIGHAND | CLONE_FS | CLONE_FILES | SIGUSR2,
	SIGCHLD,
};

static const int kinds[] = {KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND};
static const int bits[] = {CLONE_VM, CLONE_FILES, CLONE_FS, CLONE_SIGHAND};

static struct shared {
	volatile int ready[COUNT], go, round[COUNT];
	volatile pid_t pid[COUNT], ppid[COUNT];
	volatile int error[COUNT];
} *shared;

static volatile int private_word;
static char stacks[COUNT][64 << 10] __attribute__((aligned(64)));

static void live(int who)
{
	shared->pid[who] = syscall(SYS_getpid);
	shared->ppid[who] = syscall(SYS_getppid);
	shared->ready[who] = 1;
	while (!shared->go)
		usleep(2000);
	if (syscall(SYS_getppid) != shared->ppid[who])
		shared->error[who] = 1;
	if (who == DIRECTORY && chdir("/usr"))
		shared->error[who] = 2;
	if (who == DESCRIPTORS && dup2(2, 77) != 77)
		shared->error[who] = 3;
	if (who == MEMORY)
		private_word = 4711;
	if (who == BROTHER && dup2(2, 88) != 88)
		shared->error[who] = 4;
	shared->round[who] = 1;
	for (;;)
		usleep(100000);
}

static int begin(void *who)
{
	live((int)(intptr_t)who);
	return 0;
}

static pid_t make(int who)
{
	pid_t pid = MUST(clone(begin, stacks[who] + sizeof stacks[who], flags[who], (void *)(intptr_t)who));
	while (!shared->ready[who])
		usleep(1000);
	return pid;
}

/* The brother is a child of ours that shares the descriptors of the one alone. */
static void with_brother(int who)
{
	if (who != ALONE)
		return;
	MUST(clone(begin, stacks[BROTHER] + sizeof stacks[BROTHER], CLONE_PARENT | CLONE_FILES | SIGCHLD, (void *)BROTHER));
}

static int alone(void *who)
{
	with_brother((int)(intptr_t)who);
	live((int)(intptr_t)who);
	return 0;
}

static int share(pid_t one, pid_t other, int kind)
{
	return syscall(SYS_kcmp, one, other, kind, 0, 0) == 0;
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	signal(SIGUSR2, SIG_IGN);
	shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int who = 0; who < ALONE; who++)
		make(who);
	MUST(clone(alone, stacks[ALONE] + sizeof stacks[ALONE], SIGCHLD, (void *)ALONE));
	while (!shared->ready[BROTHER] || !shared->ready[ALONE])
		usleep(1000);
	signal(SIGUSR2, SIG_DFL);
	sigset_t usr2;
	sigemptyset(&usr2);
	sigaddset(&usr2, SIGUSR2);
	sigprocmask(SIG_BLOCK, &usr2, NULL);
	victim_ready();
	victim_wait();

	pid_t self = getpid();
	for (int who = 0; who < COUNT; who++)
		for (int kind = 0; kind < 4; kind++) {
			int wanted = who < ALONE && flags[who] & bits[kind];
			/* The handlers of two that share with us are those of both. */
			CHECK(share(self, shared->pid[who], kinds[kind]) == !!wanted, "process %d and %s", who,
			      ((const char *[]){"our memory", "our descriptors", "our directory", "our handlers"})[kind]);
		}
	CHECK(share(shared->pid[ALONE], shared->pid[BROTHER], KCMP_FILES), "the brothers share no descriptors");
	CHECK(!share(shared->pid[ALONE], shared->pid[BROTHER], KCMP_FS), "the brothers share a directory");
	shared->go = 1;
	for (int who = 0; who < COUNT; who++) {
		while (!shared->round[who])
			usleep(1000);
		CHECK(!shared->error[who], "process %d: error %d", who, shared->error[who]);
	}
	char directory[600];
	CHECK(getcwd(directory, sizeof directory) && !strcmp(directory, "/usr"), "the directory is %s", directory);
	CHECK(fcntl(77, F_GETFD) >= 0, "a descriptor made in a child");
	CHECK(fcntl(88, F_GETFD) < 0, "a descriptor made in a brother");
	CHECK(private_word == 4711, "memory written by a child");
	/* Who ends with another signal than SIGCHLD is waited for only by name of its kind. */
	pid_t clone_child = shared->pid[EVERYTHING];
	MUST(kill(clone_child, SIGKILL));
	CHECK(waitpid(clone_child, NULL, __WCLONE) == clone_child, "it ends with SIGCHLD: %s", strerror(errno));
	sigset_t pending;
	sigpending(&pending);
	CHECK(sigismember(&pending, SIGUSR2), "no signal of its end");
	for (int who = 0; who < COUNT; who++)
		if (who != EVERYTHING) {
			pid_t pid = shared->pid[who];
			MUST(kill(pid, SIGKILL));
			CHECK(waitpid(pid, NULL, 0) == pid, "process %d is not ours: %s", who, strerror(errno));
		}
	return victim_pass();
}
