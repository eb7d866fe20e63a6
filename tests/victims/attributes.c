/*
 * Attributes of a process and of a thread; and CLOCK_MONOTONIC, which goes on from where it stood: it neither jumps by
 * the time between dump and restore (the harness lets two seconds pass) nor goes back.
 */
#include "victim.h"
#include <linux/securebits.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define LARGEST_GAP 1.5

struct facts {
	int nice, slack, umask, oom, death_signal, subreaper, securebits, io, no_new_privs, dumpable, persona, filter, policy;
	pid_t session, group;
	cpu_set_t cpus;
	struct rlimit limits[RLIM_NLIMITS];
	char comm[16], cwd[300], second_comm[16];
	int second_nice, second_slack;
};

static volatile int deaths, finish;
static struct facts before, now;
static pthread_barrier_t barrier;

static void on_death(int number)
{
	(void)number;
	deaths++;
}

static int number_in(const char *path, const char *format)
{
	int value = -12345;
	FILE *file = fopen(path, "r");
	if (file) {
		if (fscanf(file, format, &value) != 1)
			value = -54321;
		fclose(file);
	}
	return value;
}

static void collect(struct facts *facts)
{
	errno = 0;
	facts->nice = getpriority(PRIO_PROCESS, 0);
	facts->slack = prctl(PR_GET_TIMERSLACK);
	facts->umask = umask(0);
	umask(facts->umask);
	facts->oom = number_in("/proc/self/oom_score_adj", "%d");
	facts->filter = number_in("/proc/self/coredump_filter", "%x");
	prctl(PR_GET_PDEATHSIG, &facts->death_signal);
	prctl(PR_GET_CHILD_SUBREAPER, &facts->subreaper);
	facts->securebits = prctl(PR_GET_SECUREBITS);
	facts->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	facts->dumpable = prctl(PR_GET_DUMPABLE);
	facts->io = syscall(SYS_ioprio_get, 1, 0);
	facts->persona = personality(0xffffffff);
	facts->policy = sched_getscheduler(0);
	facts->session = getsid(0);
	facts->group = getpgrp();
	sched_getaffinity(0, sizeof facts->cpus, &facts->cpus);
	for (int which = 0; which < RLIM_NLIMITS; which++)
		getrlimit(which, &facts->limits[which]);
	prctl(PR_GET_NAME, facts->comm);
	if (!getcwd(facts->cwd, sizeof facts->cwd))
		facts->cwd[0] = 0;
}

static void *second(void *unused)
{
	(void)unused;
	prctl(PR_SET_NAME, "second one");
	setpriority(PRIO_PROCESS, 0, 11);
	prctl(PR_SET_TIMERSLACK, 777777);
	pthread_barrier_wait(&barrier);
	while (!finish)
		usleep(20000);
	prctl(PR_GET_NAME, now.second_comm);
	now.second_nice = getpriority(PRIO_PROCESS, 0);
	now.second_slack = prctl(PR_GET_TIMERSLACK);
	return NULL;
}

static void set_up(void)
{
	struct rlimit files = {200, 400}, cores = {0, 4096}, stack = {4 << 20, 64 << 20}, locked = {1 << 20, 1 << 20};
	cpu_set_t first;
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	signal(SIGUSR2, on_death);
	MUST(mkdir(victim_beside("inside"), 0700));
	MUST(chdir(victim_beside("inside")));
	umask(027);
	MUST(setpriority(PRIO_PROCESS, 0, 5));
	MUST(sched_setaffinity(0, sizeof first, &first));
	MUST(prctl(PR_SET_TIMERSLACK, 123456));
	MUST(prctl(PR_SET_NAME, "a victim"));
	MUST(setrlimit(RLIMIT_NOFILE, &files));
	MUST(setrlimit(RLIMIT_CORE, &cores));
	MUST(setrlimit(RLIMIT_STACK, &stack));
	MUST(setrlimit(RLIMIT_MEMLOCK, &locked));
	int oom = MUST(open("/proc/self/oom_score_adj", O_WRONLY));
	MUST(write(oom, "321", 3));
	MUST(close(oom));
	int filter = MUST(open("/proc/self/coredump_filter", O_WRONLY));
	MUST(write(filter, "0x31", 4));
	MUST(close(filter));
	MUST(prctl(PR_SET_PDEATHSIG, SIGUSR2));
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	MUST(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED));
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	MUST(syscall(SYS_ioprio_set, 1, 0, (2 << 13) | 6));
	personality(PER_LINUX | ADDR_NO_RANDOMIZE);
	MUST(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}));
}

#define SAME(field) CHECK(now.field == before.field, #field ": %d, was %d", (int)now.field, (int)before.field)

static void compare(void)
{
	SAME(nice);
	SAME(slack);
	SAME(umask);
	SAME(oom);
	SAME(filter);
	SAME(death_signal);
	SAME(subreaper);
	SAME(securebits);
	SAME(no_new_privs);
	SAME(dumpable);
	SAME(io);
	SAME(persona);
	SAME(policy);
	SAME(session);
	SAME(group);
	CHECK(CPU_EQUAL(&now.cpus, &before.cpus), "affinity: %d processors, were %d", CPU_COUNT(&now.cpus),
	      CPU_COUNT(&before.cpus));
	for (int which = 0; which < RLIM_NLIMITS; which++)
		CHECK(now.limits[which].rlim_cur == before.limits[which].rlim_cur &&
			      now.limits[which].rlim_max == before.limits[which].rlim_max,
		      "limit %d: %lu and %lu, was %lu and %lu", which, now.limits[which].rlim_cur,
		      now.limits[which].rlim_max, before.limits[which].rlim_cur, before.limits[which].rlim_max);
	CHECK(!strcmp(now.comm, before.comm), "comm: %s", now.comm);
	CHECK(!strcmp(now.cwd, before.cwd), "cwd: %.150s, was %.150s", now.cwd, before.cwd);
	CHECK(!strcmp(now.second_comm, "second one"), "comm of the second thread: %s", now.second_comm);
	CHECK(now.second_nice == 11, "nice of the second thread: %d", now.second_nice);
	CHECK(now.second_slack == 777777, "timer slack of the second thread: %d", now.second_slack);
	CHECK(deaths == 0, "the parent-death signal came %d times, and the process that has it did not lose its parent", deaths);
}

int main(int argc, char **argv)
{
	pthread_t other;
	sigset_t asks;
	victim_start(argc, argv);
	set_up();
	pthread_barrier_init(&barrier, NULL, 2);
	CHECK(!pthread_create(&other, NULL, second, NULL), "set-up: pthread_create");
	pthread_barrier_wait(&barrier);
	collect(&before);
	sigemptyset(&asks);
	sigaddset(&asks, SIGUSR1);
	victim_ready();
	/* The main thread alone takes the question. */
	pthread_sigmask(SIG_UNBLOCK, &asks, NULL);
	double last[2] = {0, 0};
	while (!victim_asked) {
		static const clockid_t clocks[2] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME};
		for (int which = 0; which < 2; which++) {
			struct timespec time;
			clock_gettime(clocks[which], &time);
			double at = time.tv_sec + time.tv_nsec / 1e9;
			CHECK(last[which] == 0 || (at >= last[which] && at < last[which] + LARGEST_GAP),
			      "clock %d went from %.3f to %.3f", clocks[which], last[which], at);
			last[which] = at;
		}
		usleep(10000);
	}
	finish = 1;
	pthread_join(other, NULL);
	collect(&now);
	compare();
	return victim_pass();
}
