/*
 * Settings that the other victims have not: each is read before and after, in the main thread and in a second one, which
 * has set some of them otherwise. What this kernel or machine does not have is left alone, and is the same then too.
 */
#include "victim.h"
#include <linux/capability.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/rseq.h>

#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif

#define THP_EXCEPT_ADVISED 2
#define EPIOCSPARAMS _IOW(0x8A, 1, uint64_t)
#define EPIOCGPARAMS _IOR(0x8A, 2, uint64_t)
#define POLICY_OF_ADDRESS 2
#define BOUND 2
#define INTERLEAVED 3
#define COUNT 64

static char *area, *plain, *sealed, *named, *droppable;
static int poller;
static volatile char selector;
static volatile int caught, finish;
static pthread_barrier_t barrier;

struct attribute {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static long sched(int what)
{
	struct attribute now = {0};
	if (syscall(SYS_sched_getattr, 0, &now, sizeof now, 0))
		return -errno;
	return what == 0 ? now.policy : what == 1 ? (long)now.flags : what == 2 ? now.priority : (long)now.runtime;
}

static long filled(int option)
{
	int value = -1;
	return prctl(option, &value) ? -errno : value;
}

static long policy(void *at)
{
	int mode = -1;
	unsigned long nodes[16] = {0};
	if (syscall(SYS_get_mempolicy, &mode, nodes, 1024, at, at ? POLICY_OF_ADDRESS : 0))
		return -errno;
	return mode + nodes[0] * 100;
}

static long capabilities(int which)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct sets[2];
	if (syscall(SYS_capget, &header, sets))
		return -errno;
	uint32_t low = which == 0 ? sets[0].effective : which == 1 ? sets[0].permitted : sets[0].inheritable;
	return low;
}

static long ambient(void)
{
	long all = 0;
	for (int cap = 0; cap < 41; cap++)
		all |= (long)(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1) << cap;
	return all;
}

static long bounding(void)
{
	long all = 0;
	for (int cap = 0; cap < 41; cap++)
		all |= (long)(prctl(PR_CAPBSET_READ, cap) == 1) << cap;
	return all;
}

/* 1 if a new mapping is locked, 2 if it will be when it is touched. */
static long locks_later(void)
{
	unsigned char resident = 0;
	char line[300];
	int locked = 0, on_fault = 0, inside = 0;
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	mincore(page, 4096, &resident);
	FILE *file = fopen("/proc/self/smaps", "r");
	while (file && fgets(line, sizeof line, file)) {
		unsigned long start, end;
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= (unsigned long)page && (unsigned long)page < end;
		else if (inside && !strncmp(line, "VmFlags:", 8)) {
			locked = !!strstr(line, " lo");
			on_fault = !!strstr(line, " lf");
		}
	}
	if (file)
		fclose(file);
	munmap(page, 4096);
	return locked + on_fault * 2 + resident * 4;
}

static long busy_poll(void)
{
	uint64_t params = 0;
	return ioctl(poller, EPIOCGPARAMS, &params) ? -errno : (long)params;
}

static long number(const char *path)
{
	long value = -1;
	char text[100] = "";
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return -errno;
	if (read(fd, text, sizeof text - 1) > 0)
		value = strtol(strncmp(text, "/autogroup", 10) ? text : strstr(text, "nice ") + 5, NULL, 0);
	close(fd);
	return value;
}

/* A number for what a file of our own says. */
static long text_of(const char *path)
{
	long sum = 5381;
	unsigned char part[4096];
	ssize_t length;
	int fd = open(path, O_RDONLY);
	while (fd >= 0 && (length = read(fd, part, sizeof part)) > 0)
		for (int at = 0; at < length; at++)
			sum = sum * 33 + part[at];
	close(fd);
	return sum;
}

/* The same for the flags and the name of the memory at an address. */
static long looks_of(const char *at)
{
	long sum = 5381;
	char line[600];
	int inside = 0;
	FILE *file = fopen("/proc/self/smaps", "r");
	while (file && fgets(line, sizeof line, file)) {
		unsigned long start, end;
		int name = 0;
		const char *tell = NULL;
		if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %n", &start, &end, &name) >= 2) {
			inside = start <= (unsigned long)at && (unsigned long)at < end;
			tell = line + name;
		} else if (!strncmp(line, "VmFlags:", 8)) {
			tell = line;
		}
		for (; inside && tell && *tell; tell++)
			sum = sum * 33 + *tell;
	}
	if (file)
		fclose(file);
	return sum;
}

static long exe(void)
{
	char path[600] = "";
	long sum = 0, length = readlink("/proc/self/exe", path, sizeof path);
	for (int at = 0; at < length; at++)
		sum = sum * 33 + path[at];
	return sum;
}

static long robust_list(void)
{
	void *head = NULL;
	size_t length = 0;
	return syscall(SYS_get_robust_list, 0, &head, &length) ? -errno : (long)head + (long)length;
}

static long tid_address(void)
{
	void *at = NULL;
	return prctl(PR_GET_TID_ADDRESS, &at) ? -errno : (long)at;
}

static long ldt(void)
{
	uint64_t entries[8] = {0};
	long length = syscall(SYS_modify_ldt, 0, entries, sizeof entries);
	return length < 0 ? -errno : (long)(entries[0] ^ entries[1] * 3);
}

/* A thread with a deadline: what it is, from inside, before and after. */
static struct attribute deadlines[2];

static void *third(void *unused)
{
	(void)unused;
	struct attribute wanted = {.size = sizeof wanted, .policy = SCHED_DEADLINE, .runtime = 2000000, .deadline = 30000000, .period = 40000000};
	syscall(SYS_sched_setattr, 0, &wanted, 0);
	syscall(SYS_sched_getattr, 0, &deadlines[0], sizeof deadlines[0], 0);
	pthread_barrier_wait(&barrier);
	while (!finish)
		usleep(20000);
	syscall(SYS_sched_getattr, 0, &deadlines[1], sizeof deadlines[1], 0);
	return NULL;
}

static const char *names[COUNT];
static long values[2][2][COUNT];

static void collect(long *into)
{
	int at = 0;
#define NOTE(what) (names[at] = #what, into[at++] = (long)(what))
	NOTE(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
	NOTE(prctl(66 /* PR_GET_MDWE */, 0, 0, 0, 0));
	NOTE(prctl(68 /* PR_GET_MEMORY_MERGE */, 0, 0, 0, 0));
	NOTE(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
	NOTE(prctl(58 /* PR_GET_IO_FLUSHER */, 0, 0, 0, 0));
	NOTE(filled(PR_GET_TSC));
	NOTE(syscall(SYS_arch_prctl, 0x1011 /* ARCH_GET_CPUID */, 0));
	NOTE(prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0));
	NOTE(prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, 0, 0, 0));
	NOTE(prctl(PR_GET_KEEPCAPS));
	NOTE(prctl(PR_GET_SECUREBITS));
	NOTE(sched(0));
	NOTE(sched(1));
	NOTE(sched(2));
	NOTE(sched(3));
	NOTE(policy(NULL));
	NOTE(policy(area));
	NOTE(policy(plain));
	NOTE(locks_later());
	NOTE(busy_poll());
	NOTE(capabilities(0));
	NOTE(capabilities(1));
	NOTE(capabilities(2));
	NOTE(ambient());
	NOTE(bounding());
	NOTE(number("/proc/self/autogroup"));
	NOTE(number("/proc/self/loginuid"));
	NOTE(getgroups(0, NULL));
	NOTE(text_of("/proc/self/auxv"));
	NOTE(text_of("/proc/self/cmdline"));
	NOTE(text_of("/proc/self/environ"));
	NOTE(exe());
	NOTE(sbrk(0));
	NOTE(looks_of(area));
	NOTE(looks_of(sealed));
	NOTE(looks_of(named));
	NOTE(looks_of(droppable));
	NOTE(robust_list());
	NOTE(tid_address());
	NOTE(ldt());
	NOTE(syscall(SYS_membarrier, 1 << 9 /* GET_REGISTRATIONS */, 0, 0));
	NOTE(syscall(SYS_rseq, __builtin_thread_pointer() + __rseq_offset, 32, 0, 0x53053053));
	NOTE(errno);
	NOTE(syscall(SYS_ioprio_get, 1, 0));
}

static void on_dispatch(int signal)
{
	(void)signal;
	selector = SYSCALL_DISPATCH_FILTER_ALLOW;
	caught++;
}

/* What the kernel or the machine does not have fails, and stays as it is. */
static void *second(void *unused)
{
	(void)unused;
	struct attribute round_robin = {.size = sizeof round_robin, .policy = SCHED_RR, .priority = 7};
	syscall(SYS_sched_setattr, 0, &round_robin, 0);
	prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0);
	prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0);
	/* From here on this thread reads no clock: the vDSO would read the time-stamp counter. */
	MUST(prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0));
	syscall(SYS_arch_prctl, 0x1012 /* ARCH_SET_CPUID */, 0);
	collect(values[1][0]);
	pthread_barrier_wait(&barrier);
	while (!finish)
		syscall(SYS_nanosleep, &(struct timespec){0, 20000000}, NULL);
	collect(values[1][1]);
	return NULL;
}

static void set_up(void)
{
	unsigned long first = 1;
	uint64_t params = 100 | 8ULL << 32 | 1ULL << 48;
	struct attribute batch = {.size = sizeof batch, .policy = SCHED_BATCH, .flags = 1 /* RESET_ON_FORK */, .runtime = 3000000};
	area = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	plain = mmap(NULL, 8 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(area == MAP_FAILED || plain == MAP_FAILED ? -1 : 0);
	syscall(SYS_mbind, area, 4096, BOUND, &first, 64, 0);
	syscall(SYS_set_mempolicy, INTERLEAVED, &first, 64);
	sealed = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	syscall(462 /* mseal */, sealed, 4096, 0);
	named = mmap(NULL, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	prctl(0x53564d41 /* PR_SET_VMA */, 0, named, 5 * 4096, "a name");
	madvise(named, 5 * 4096, MADV_MERGEABLE);
	droppable = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, 8 /* MAP_DROPPABLE */ | MAP_ANONYMOUS, -1, 0);
	/* struct user_desc: number, base, limit, 32 bit and usable. */
	syscall(SYS_modify_ldt, 1, (uint32_t[4]){1, 0x1000, 0xfff, 1 | 1 << 6}, 16);
	MUST(syscall(SYS_membarrier, 1 << 4 /* REGISTER_PRIVATE_EXPEDITED */, 0, 0));
	poller = MUST(epoll_create1(0));
	ioctl(poller, EPIOCSPARAMS, &params);
	if (prctl(PR_SET_THP_DISABLE, 1, THP_EXCEPT_ADVISED, 0, 0))
		MUST(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	prctl(67 /* PR_SET_MEMORY_MERGE */, 1, 0, 0, 0);
	MUST(mlockall(MCL_FUTURE | MCL_ONFAULT));
	MUST(syscall(SYS_sched_setattr, 0, &batch, 0));
	MUST(prctl(PR_SET_KEEPCAPS, 1));
	gid_t groups[3] = {7, 70, 700};
	MUST(syscall(SYS_setgroups, 3, groups));
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct sets[2];
	MUST(syscall(SYS_capget, &header, sets));
	sets[0].inheritable = 1 << CAP_KILL;
	MUST(syscall(SYS_capset, &header, sets));
	MUST(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
	MUST(prctl(PR_CAPBSET_DROP, CAP_SYS_PACCT, 0, 0, 0));
	int file = open("/proc/self/autogroup", O_WRONLY);
	if (file >= 0) {
		MUST(write(file, "4", 1));
		close(file);
	}
	prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0);
	signal(SIGSYS, on_dispatch);
	selector = SYSCALL_DISPATCH_FILTER_ALLOW;
	MUST(prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector));
}

static void compare(const char *whose, long (*of)[COUNT])
{
	for (int at = 0; at < COUNT && names[at]; at++)
		CHECK(of[0][at] == of[1][at], "%s thread: %s is %ld, was %ld", whose, names[at], of[1][at], of[0][at]);
}

int main(int argc, char **argv)
{
	pthread_t other, timed;
	victim_start(argc, argv);
	pthread_barrier_init(&barrier, NULL, 3);
	set_up();
	CHECK(!pthread_create(&other, NULL, second, NULL), "set-up: pthread_create");
	CHECK(!pthread_create(&timed, NULL, third, NULL), "set-up: pthread_create");
	pthread_barrier_wait(&barrier);
	collect(values[0][0]);
	victim_ready();
	victim_wait();
	finish = 1;
	pthread_join(other, NULL);
	collect(values[0][1]);
	pthread_join(timed, NULL);
	CHECK(!memcmp(&deadlines[0], &deadlines[1], sizeof deadlines[0]), "deadline: policy %u, %lu of %lu, was policy %u, %lu of %lu",
	      deadlines[1].policy, deadlines[1].runtime, deadlines[1].period, deadlines[0].policy, deadlines[0].runtime,
	      deadlines[0].period);
	compare("main", values[0]);
	compare("second", values[1]);
	selector = SYSCALL_DISPATCH_FILTER_BLOCK;
	syscall(SYS_getppid);
	CHECK(caught == 1, "the system call was dispatched %d times", caught);
	return victim_pass();
}
