/* Regular files with offsets, flags, shared and separate descriptions, directories, devices, O_PATH and owners. */
#include "victim.h"

#define COUNT 12

enum { PLAIN, APPEND, READER, DUPLICATE, FAR_DUPLICATE, PATH, FOLDER, FOLDER_PATH, NIL, ZERO, NONBLOCK, OWNED };
static int fds[COUNT];
static struct {
	int status, descriptor;
	off_t offset;
	struct stat stat;
} before[COUNT];

static void set_up(void)
{
	const char *plain = victim_beside("plain"), *append = victim_beside("append");
	fds[PLAIN] = MUST(open(plain, O_RDWR | O_CREAT | O_TRUNC, 0640));
	MUST(write(fds[PLAIN], "0123456789abcdefghij", 20));
	MUST(lseek(fds[PLAIN], 7, SEEK_SET));
	fds[APPEND] = MUST(open(append, O_RDWR | O_CREAT | O_APPEND | O_TRUNC, 0600));
	MUST(write(fds[APPEND], "first,", 6));
	MUST(lseek(fds[APPEND], 2, SEEK_SET));
	fds[READER] = MUST(open(plain, O_RDONLY | O_CLOEXEC));
	MUST(lseek(fds[READER], 3, SEEK_SET));
	fds[DUPLICATE] = MUST(dup(fds[PLAIN]));
	fds[FAR_DUPLICATE] = MUST(fcntl(fds[PLAIN], F_DUPFD_CLOEXEC, 300));
	fds[PATH] = MUST(open(plain, O_PATH | O_CLOEXEC));
	fds[FOLDER] = MUST(open(victim_beside("."), O_RDONLY | O_DIRECTORY));
	fds[FOLDER_PATH] = MUST(open(victim_beside("."), O_PATH | O_DIRECTORY));
	fds[NIL] = MUST(open("/dev/null", O_RDWR));
	fds[ZERO] = MUST(open("/dev/zero", O_RDONLY | O_CLOEXEC));
	fds[NONBLOCK] = MUST(open(plain, O_WRONLY | O_NONBLOCK));
	fds[OWNED] = MUST(open(append, O_RDONLY));
	MUST(fcntl(fds[OWNED], F_SETOWN, getpid()));
	MUST(fcntl(fds[OWNED], F_SETSIG, SIGRTMIN + 3));
}

static void note(int at)
{
	before[at].status = MUST(fcntl(fds[at], F_GETFL));
	before[at].descriptor = MUST(fcntl(fds[at], F_GETFD));
	before[at].offset = lseek(fds[at], 0, SEEK_CUR);
	MUST(fstat(fds[at], &before[at].stat));
}

static void check(int at)
{
	struct stat now;
	int status = fcntl(fds[at], F_GETFL), descriptor = fcntl(fds[at], F_GETFD);
	CHECK(status == before[at].status, "flags of file %d: %o, were %o", at, status, before[at].status);
	CHECK(descriptor == before[at].descriptor, "close-on-exec of file %d: %d", at, descriptor);
	off_t offset = lseek(fds[at], 0, SEEK_CUR);
	CHECK(offset == before[at].offset, "offset of file %d: %ld, was %ld", at, offset, before[at].offset);
	CHECK(fstat(fds[at], &now) == 0, "fstat of file %d: %s", at, strerror(errno));
	CHECK(now.st_dev == before[at].stat.st_dev && now.st_ino == before[at].stat.st_ino, "file %d is another file", at);
	CHECK(now.st_rdev == before[at].stat.st_rdev && now.st_mode == before[at].stat.st_mode, "file %d changed", at);
}

int main(int argc, char **argv)
{
	char text[32] = {0}, open_before[400];
	victim_start(argc, argv);
	set_up();
	for (int fd = 0; fd < 400; fd++)
		open_before[fd] = fcntl(fd, F_GETFD) != -1;
	for (int at = 0; at < COUNT; at++)
		note(at);
	victim_ready();
	victim_wait();
	for (int at = 0; at < COUNT; at++)
		check(at);
	for (int fd = 0; fd < 400; fd++)
		CHECK((fcntl(fd, F_GETFD) != -1) == open_before[fd], "descriptor %d came from nowhere or is gone", fd);
	/* One offset for the duplicates, its own for each other description. */
	CHECK(read(fds[PLAIN], text, 4) == 4 && !memcmp(text, "789a", 4), "read %.4s", text);
	CHECK(lseek(fds[DUPLICATE], 0, SEEK_CUR) == 11, "the duplicate has another offset");
	CHECK(lseek(fds[FAR_DUPLICATE], 0, SEEK_CUR) == 11, "the far duplicate has another offset");
	CHECK(lseek(fds[READER], 0, SEEK_CUR) == 3, "the reader shares an offset");
	CHECK(lseek(fds[NONBLOCK], 0, SEEK_CUR) == 0, "the writer shares an offset");
	CHECK(write(fds[APPEND], "last", 4) == 4, "append: %s", strerror(errno));
	CHECK(pread(fds[APPEND], text, 20, 0) == 10 && !memcmp(text, "first,last", 10), "appended: %.10s", text);
	CHECK(write(fds[NIL], "x", 1) == 1 && read(fds[NIL], text, 1) == 0, "/dev/null");
	text[0] = 1;
	CHECK(read(fds[ZERO], text, 1) == 1 && text[0] == 0, "/dev/zero");
	CHECK(read(fds[PATH], text, 1) == -1 && errno == EBADF, "O_PATH can be read");
	CHECK(fcntl(fds[OWNED], F_GETOWN) == getpid(), "owner %d", fcntl(fds[OWNED], F_GETOWN));
	CHECK(fcntl(fds[OWNED], F_GETSIG) == SIGRTMIN + 3, "signal %d", fcntl(fds[OWNED], F_GETSIG));
	return victim_pass();
}
