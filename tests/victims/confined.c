/*
 * Threads and children under seccomp: a filter of all threads that kills for all calls but the few that are needed, another of
 * one thread alone, a child that inherits them, a child in strict mode, and a thread that is under none. All of it is told by what
 * calls return, not by /proc: who opens a file is killed. "new" sets no_new_privs;
 * "together" leaves the one thread without a filter of its own, so that all can be synchronised; "restart"
 * allows restart_syscall, without which a thread that sleeps does not survive any stop whose cause goes away of itself.
 */
#include "victim.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define ANSWER(call, error) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static int together, restarts;

enum { ALL = 91, ONE, LATE };

static void add(struct sock_filter *filter, unsigned short count, unsigned flags)
{
	struct sock_fprog program = {count, filter};
	MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
}

/* Kills for whatever a dump might want to call in here: mmap, munmap, futex, prctl, close. */
static void add_strictest(void)
{
	struct sock_filter filter[] = {
		LOAD(nr),
		ANSWER(getppid, ALL),
		ALLOW(read),
		ALLOW(write),
		ALLOW(exit),
		ALLOW(exit_group),
		ALLOW(rt_sigreturn),
		ALLOW(rt_sigsuspend),
		ALLOW(rt_sigprocmask),
		ALLOW(nanosleep),
		ALLOW(clock_nanosleep),
		ALLOW(wait4),
		ALLOW(kill),
		ALLOW(getuid),
		ALLOW(getgid),
		ALLOW(seccomp),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_restart_syscall, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, restarts ? SECCOMP_RET_ALLOW : SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	add(filter, COUNT(filter), SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG);
}

static void add_answer(int call, int error, unsigned flags)
{
	struct sock_filter filter[] = {
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	add(filter, COUNT(filter), flags);
}

static int answer(int call)
{
	long result = syscall(call);
	return result < 0 ? errno : 0;
}

enum { FREE, PLAIN, OWN, THREADS };
static volatile int ready[THREADS], asked, seen[THREADS][3];
static volatile int begun[THREADS], filtered;

static void look(int who)
{
	seen[who][0] = answer(SYS_getppid);
	seen[who][1] = answer(SYS_getuid);
	seen[who][2] = answer(SYS_getgid);
}

static void *live(void *which)
{
	int who = (int)(intptr_t)which;
	begun[who] = 1;
	while (!filtered)
		usleep(1000);
	if (who == OWN && !together)
		add_answer(SYS_getuid, ONE, 0);
	ready[who] = 1;
	struct timespec pause = {0, 20000000};
	for (int round = 1;; round++) {
		while (asked < round)
			syscall(SYS_nanosleep, &pause, NULL);
		look(who);
		ready[who] = round + 1;
	}
	return NULL;
}

/* Answers each byte by the next; in strict mode it may do nothing else. */
static void serve(int from, int to)
{
	unsigned char byte;
	while (syscall(SYS_read, from, &byte, 1) == 1) {
		byte++;
		syscall(SYS_write, to, &byte, 1);
	}
	syscall(SYS_exit, 0);
}

struct child {
	pid_t pid;
	int to, from;
};

static struct child make(int is_strict)
{
	int asks[2], answers[2];
	MUST(pipe(asks));
	MUST(pipe(answers));
	pid_t pid = MUST(fork());
	if (!pid) {
		close(asks[1]);
		close(answers[0]);
		if (is_strict)
			MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
		else
			add_strictest();
		if (!is_strict && answer(SYS_getppid) != ALL)
			_exit(7);
		serve(asks[0], answers[1]);
	}
	close(asks[0]);
	close(answers[1]);
	return (struct child){pid, asks[1], answers[0]};
}

static void ask(struct child child, const char *who)
{
	unsigned char byte = 'a';
	CHECK(write(child.to, &byte, 1) == 1, "the pipe to the %s", who);
	CHECK(read(child.from, &byte, 1) == 1 && byte == 'b', "the %s does not answer", who);
}

static void ask_threads(int round)
{
	asked = round;
	struct timespec pause = {0, 1000000};
	for (int who = PLAIN; who < THREADS; who++)
		while (ready[who] < round + 1)
			syscall(SYS_nanosleep, &pause, NULL);
	look(FREE);
}

static void expect(int who, int ppid, int uid, int gid)
{
	volatile int *got = seen[who];
	CHECK(got[0] == ppid && got[1] == uid && got[2] == gid, "thread %d: answers %d %d %d, wanted %d %d %d", who, got[0],
	      got[1], got[2], ppid, uid, gid);
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	char *memory = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int at = 0; at < 8 << 20; at += 512)
		memory[at] = at >> 9;
	together = argc > 2 && !strcmp(argv[2], "together");
	restarts = argc > 2 && !strcmp(argv[2], "restart");
	if (argc > 2 && !strcmp(argv[2], "new"))
		MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	struct child strict = make(1), child = make(0);
	pthread_t threads[THREADS];
	for (int who = PLAIN; who < THREADS; who++)
		pthread_create(&threads[who], NULL, live, (void *)(intptr_t)who);
	/* A new thread makes calls of the C library's first. */
	for (int who = PLAIN; who < THREADS; who++)
		while (!begun[who])
			usleep(1000);
	add_strictest();
	filtered = 1;
	for (int who = PLAIN; who < THREADS; who++)
		while (!ready[who])
			syscall(SYS_nanosleep, &(struct timespec){0, 1000000}, NULL);
	victim_ready();
	victim_wait();

	for (int at = 0; at < 8 << 20; at += 512)
		CHECK(memory[at] == (char)(at >> 9), "memory at %d", at);
	ask_threads(1);
	expect(FREE, ALL, 0, 0);
	expect(PLAIN, ALL, 0, 0);
	expect(OWN, ALL, together ? 0 : ONE, 0);
	ask(strict, "child in strict mode");
	ask(child, "child");
	/* A thread with a filter of its own cannot be synchronised, all others can: they have theirs in common. */
	struct sock_filter filter[] = {
		LOAD(nr),
		ANSWER(getgid, LATE),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {COUNT(filter), filter};
	long stranger = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
	ask_threads(2);
	if (together) {
		CHECK(stranger == 0, "threads have no filters in common: %ld, %s", stranger, strerror(errno));
		for (int who = FREE; who < THREADS; who++)
			expect(who, ALL, 0, LATE);
	} else {
		CHECK(stranger > 0, "all threads could be synchronised: %ld", stranger);
		expect(OWN, ALL, ONE, 0);
	}
	/* The strict one is killed for whatever else it would do; this ends it as it should. */
	victim_say("PASS");
	syscall(SYS_kill, strict.pid, SIGKILL);
	syscall(SYS_kill, child.pid, SIGKILL);
	syscall(SYS_exit_group, 0);
}
