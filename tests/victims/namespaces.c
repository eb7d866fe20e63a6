/*
 * Descriptors of namespaces, one of them twice, and one with a flag.
 */
#include "victim.h"
#include <linux/nsfs.h>
#include <sys/ioctl.h>

static const char *const names[] = {"pid", "net", "ipc", "uts", "mnt", "user", "cgroup"};
static const int kinds[] = {CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWNS, CLONE_NEWUSER, 0x02000000};
#define COUNT (int)(sizeof names / sizeof names[0])

static void check(int fd, const char *name, int kind)
{
	char path[64];
	struct stat theirs, ours;
	snprintf(path, sizeof path, "/proc/self/ns/%s", name);
	CHECK(fstat(fd, &theirs) == 0 && stat(path, &ours) == 0, "%s: %s", path, strerror(errno));
	CHECK(theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino, "descriptor %d is not %s", fd, path);
	CHECK(ioctl(fd, NS_GET_NSTYPE) == kind, "descriptor %d is not of kind %x", fd, kind);
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	int fds[COUNT];
	for (int n = 0; n < COUNT; n++) {
		char path[64];
		snprintf(path, sizeof path, "/proc/self/ns/%s", names[n]);
		fds[n] = MUST(open(path, O_RDONLY | (n == 1 ? O_CLOEXEC : 0) | (n == 2 ? O_NONBLOCK : 0)));
	}
	int again = MUST(dup(fds[3]));
	int flags[COUNT];
	for (int n = 0; n < COUNT; n++)
		flags[n] = MUST(fcntl(fds[n], F_GETFL));
	victim_ready();
	victim_wait();
	for (int n = 0; n < COUNT; n++) {
		check(fds[n], names[n], kinds[n]);
		CHECK(fcntl(fds[n], F_GETFL) == flags[n], "flags of %s: %o, wanted %o", names[n], fcntl(fds[n], F_GETFL), flags[n]);
		CHECK(fcntl(fds[n], F_GETFD) == (n == 1 ? FD_CLOEXEC : 0), "close on exec of %s", names[n]);
	}
	check(again, names[3], kinds[3]);
	CHECK(syscall(SYS_kcmp, getpid(), getpid(), 0, fds[3], again) == 0, "the duplicate is a description of its own");
	return victim_pass();
}
