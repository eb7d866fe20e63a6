/*
 * Files and folders of /proc that are of processes of the tree: of the process itself, of a thread, of a child, of a grandchild, of the
 * parent, of one that has ended and was not waited for, of one that is gone; of one outside; one read half; a working directory. Files
 * of /sys. With a number it has one of that process too, with "ended" one of a thread that is gone.
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

static pthread_t started(pid_t *tid)
{
	pthread_t thread;
	pthread_create(&thread, NULL, sleeper, tid);
	while (!__atomic_load_n(tid, __ATOMIC_ACQUIRE))
		usleep(1000);
	return thread;
}

static int of_thread(pid_t tid, const char *name, int flags)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/task/%d/%s", tid, name);
	return MUST(open(path, flags));
}

static void is_gone(int fd, const char *name)
{
	char text[40];
	ssize_t got = pread(fd, text, sizeof text, 0);
	CHECK(got <= 0 && (got == 0 || errno == ESRCH), "%s says %zd bytes (%s)", name, got, strerror(errno));
}

int main(int argc, char **argv)
{
	int ask[2], answer[2];
	victim_start(argc, argv);
	const char *kind = argc > 2 ? argv[2] : "";
	if (atoi(kind))
		MUST(of(atoi(kind), "/stat", O_RDONLY));
	if (!strcmp(kind, "ended")) {
		pid_t tid = 0;
		pthread_t thread = started(&tid);
		of_thread(tid, "stat", O_RDONLY);
		pthread_cancel(thread);
		pthread_join(thread, NULL);
	}
	pid_t tid = 0;
	started(&tid);
	int of_one = of_thread(tid, "stat", O_RDONLY), called = of_thread(tid, "comm", O_RDWR),
	    init = MUST(of(1, "/stat", O_RDONLY)), first_of_init = MUST(of(1, "/task/1/comm", O_RDONLY));
	pid_t gone = MUST(fork());
	if (!gone)
		for (;;)
			pause();
	int of_gone = MUST(of(gone, "/stat", O_RDONLY)), maps_of_gone = MUST(of(gone, "/maps", O_RDONLY)),
	    net_of_gone = MUST(of(gone, "/net/dev", O_RDONLY)), folder_of_gone = MUST(of(gone, "", O_RDONLY | O_DIRECTORY));
	char gone_name[64];
	snprintf(gone_name, sizeof gone_name, "/proc/%d/stat", gone);
	MUST(read(of_gone, (char[4]){0}, 4));
	MUST(kill(gone, SIGKILL));
	MUST(waitpid(gone, NULL, 0));
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
			says(of_one, "the stat of the thread, which another opened,", tid);
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
	says(of_one, "the stat of the thread", tid);
	MUST(write(called, "renewed", 7));
	CHECK(pread(called, text, 8, 0) == 8 && !memcmp(text, "renewed\n", 8), "the name of the thread is [%.8s]", text);
	says(init, "the stat of one outside", 1);
	CHECK(pread(first_of_init, text, 4, 0) > 0, "the first thread of one outside");
	/* Before it is read elsewhere: a place in what is gone cannot be found again. */
	long place = lseek(of_gone, 0, SEEK_CUR);
	CHECK(place == 4, "the place in the stat of one that is gone is %ld", place);
	is_gone(of_gone, "the stat of one that is gone");
	is_gone(maps_of_gone, "the maps of one that is gone");
	CHECK(pread(net_of_gone, text, 6, 0) == 6 && !memcmp(text, "Inter-", 6), "the network of one that is gone");
	CHECK(faccessat(folder_of_gone, "stat", F_OK, 0) < 0, "the folder of one that is gone has a file");
	char link[40];
	snprintf(link, sizeof link, "/proc/self/fd/%d", of_gone);
	memset(text, 0, sizeof text);
	MUST(readlink(link, text, sizeof text - 1));
	CHECK(!strncmp(text, gone_name, strlen(gone_name)), "it is called %s, was %s", text, gone_name);
	MUST(write(ask[1], "?", 1));
	char c = 0;
	CHECK(read(answer[0], &c, 1) == 1 && c == 'y', "the grandchild says nothing");
	CHECK(pread(comm, text, 7, 0) == 7 && !memcmp(text, "renamed", 7), "the name of the grandchild is [%.7s]", text);
	MUST(kill(grandchild, SIGKILL));
	MUST(kill(child, SIGKILL));
	return victim_pass();
}
