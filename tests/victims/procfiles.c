/*
 * Files and folders of /proc that are of processes of the tree: of the process itself, of a child, of a grandchild, of the parent, of
 * one that has ended and was not waited for; one read half; a working directory. Files of /sys. With "outside" it has one of its
 * parent's, with "ended" one of a child that is gone, with "thread" one of a thread.
 */
#include "victim.h"
#include <sys/wait.h>

static int of(pid_t pid, const char *name, int flags)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d%s", pid, name);
	return open(path, flags);
}

static void says(int fd, const char *name, pid_t pid)
{
	char text[400] = {0}, wanted[16];
	CHECK(pread(fd, text, sizeof text - 1, 0) > 0, "%s: %s", name, strerror(errno));
	int length = snprintf(wanted, sizeof wanted, "%d ", pid);
	CHECK(!strncmp(text, wanted, length), "%s is of [%.20s], wanted %d", name, text, pid);
}

static void *sleeper(void *tid)
{
	__atomic_store_n((pid_t *)tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	int ask[2], answer[2];
	victim_start(argc, argv);
	const char *kind = argc > 2 ? argv[2] : "";
	if (!strcmp(kind, "outside"))
		MUST(of(1, "/stat", O_RDONLY));
	if (!strcmp(kind, "ended")) {
		pid_t gone = MUST(fork());
		if (!gone)
			pause();
		MUST(of(gone, "/stat", O_RDONLY));
		MUST(kill(gone, SIGKILL));
		MUST(waitpid(gone, NULL, 0));
	}
	if (!strcmp(kind, "thread")) {
		pthread_t thread;
		static pid_t tid;
		pthread_create(&thread, NULL, sleeper, &tid);
		while (!__atomic_load_n(&tid, __ATOMIC_ACQUIRE))
			usleep(1000);
		char name[40];
		snprintf(name, sizeof name, "/task/%d/stat", tid);
		MUST(of(getpid(), name, O_RDONLY));
	}
	MUST(pipe(ask));
	MUST(pipe(answer));
	pid_t child = MUST(fork());
	if (!child) {
		pid_t grandchild = MUST(fork());
		if (!grandchild) {
			int parent = MUST(of(getppid(), "/stat", O_RDONLY)), top = MUST(open("/proc/self/comm", O_RDWR));
			char c;
			close(ask[1]);
			MUST(read(ask[0], &c, 1));
			says(parent, "the stat of the parent", getppid());
			MUST(write(top, "renamed", 7));
			MUST(write(answer[1], "y", 1));
			pause();
		}
		MUST(write(answer[1], &grandchild, sizeof grandchild));
		pause();
	}
	pid_t grandchild, dead = MUST(fork());
	if (!dead)
		_exit(3);
	MUST(read(answer[0], &grandchild, sizeof grandchild));
	siginfo_t info;
	MUST(waitid(P_PID, dead, &info, WEXITED | WNOWAIT));
	int own = MUST(of(getpid(), "/stat", O_RDONLY)), of_child = MUST(of(child, "/stat", O_RDONLY)), comm = MUST(of(grandchild, "/comm", O_RDONLY)),
	    of_dead = MUST(of(dead, "/stat", O_RDONLY)), folder = MUST(of(grandchild, "/fd", O_RDONLY | O_DIRECTORY)),
	    maps = MUST(of(getpid(), "/maps", O_RDONLY)), memory = MUST(of(child, "/mem", O_RDWR)), stat = MUST(open("/proc/stat", O_RDONLY)),
	    limit = MUST(open("/proc/sys/kernel/pid_max", O_RDWR)), sys = MUST(open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDWR)),
	    bus = MUST(open("/sys/devices", O_RDONLY | O_DIRECTORY)), task = MUST(of(child, "", O_RDONLY | O_DIRECTORY));
	char text[200], before[200] = {0}, now[200] = {0};
	static volatile int word = 4711;
	MUST(read(own, text, 4));
	MUST(read(sys, before, sizeof before));
	MUST(fchdir(task));
	victim_ready();
	victim_wait();

	says(own, "its own stat", getpid());
	CHECK(lseek(own, 0, SEEK_CUR) == 4, "its place in its own stat is %ld", (long)lseek(own, 0, SEEK_CUR));
	says(of_child, "the stat of the child", child);
	says(of_dead, "the stat of the dead", dead);
	CHECK(pread(maps, text, 20, 0) == 20 && strchr(text, '-'), "its maps");
	CHECK(pread(memory, &word, sizeof word, (uintptr_t)&word) == sizeof word && word == 4711, "the memory of the child");
	CHECK(pread(stat, text, 4, 0) == 4 && !memcmp(text, "cpu ", 4), "/proc/stat");
	CHECK(pread(limit, text, 4, 0) > 0, "/proc/sys");
	CHECK(pread(sys, now, sizeof now, 0) > 0 && !strcmp(now, before), "/sys: [%s], was [%s]", now, before);
	CHECK(faccessat(bus, "system", F_OK, 0) == 0, "/sys/devices");
	CHECK(faccessat(folder, "0", F_OK, 0) == 0, "the descriptors of the grandchild");
	int by_folder = open("stat", O_RDONLY);
	CHECK(by_folder >= 0, "its working directory: %s", strerror(errno));
	says(by_folder, "stat of where it stands", child);
	MUST(write(ask[1], "?", 1));
	char c = 0;
	CHECK(read(answer[0], &c, 1) == 1 && c == 'y', "the grandchild says nothing");
	CHECK(pread(comm, text, 7, 0) == 7 && !memcmp(text, "renamed", 7), "the name of the grandchild is [%.7s]", text);
	MUST(kill(grandchild, SIGKILL));
	MUST(kill(child, SIGKILL));
	return victim_pass();
}
