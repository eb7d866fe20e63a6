/* Locks: of a process, of open file descriptions, of whole files, leases; and a named pipe with what lies in it. */
#include "victim.h"
#include <sys/file.h>
#include <sys/wait.h>

static int create(const char *name)
{
	int fd = MUST(open(victim_beside(name), O_RDWR | O_CREAT | O_EXCL, 0600));
	MUST(ftruncate(fd, 1000));
	return fd;
}

static void lock(int fd, int command, int type, long start, long length)
{
	struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
	MUST(fcntl(fd, command, &range));
}

/* What somebody else is told who would like to lock a byte for writing. Closing the file would end all locks of the process. */
static struct flock blocker(const char *name, long at)
{
	int fd = MUST(open(victim_beside(name), O_RDWR));
	struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
	MUST(fcntl(fd, F_OFD_GETLK, &range));
	return range;
}

static void check_fifo(int reader, int writer)
{
	char text[20] = {0};
	struct stat now;
	CHECK(read(reader, text, 5) == 5 && !strcmp(text, "first"), "the pipe held [%s]", text);
	CHECK(read(reader, text, 20) == -1 && errno == EAGAIN, "more in the pipe, or it blocks");
	MUST(write(writer, "later", 5));
	CHECK(read(reader, text, 20) == 5 && !memcmp(text, "later", 5), "the two ends are of two pipes");
	CHECK(fcntl(reader, F_GETFL) & O_NONBLOCK && !(fcntl(writer, F_GETFL) & O_NONBLOCK), "flags of the pipe");
	CHECK(fcntl(writer, F_GETPIPE_SZ) == 16384, "size of the pipe: %d", fcntl(writer, F_GETPIPE_SZ));
	CHECK(fstat(reader, &now) == 0 && S_ISFIFO(now.st_mode) && now.st_nlink == 1, "it is no named pipe");
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	int own = create("own"), whole = create("whole"), described = create("described");
	int again = MUST(open(victim_beside("own"), O_RDONLY));
	lock(own, F_SETLK, F_WRLCK, 10, 20);
	lock(own, F_SETLK, F_RDLCK, 500, 0);
	lock(described, F_OFD_SETLK, F_WRLCK, 3, 4);
	MUST(flock(whole, LOCK_EX));
	int shared = MUST(open(victim_beside("described"), O_RDONLY));
	MUST(flock(shared, LOCK_SH));
	MUST(close(create("leased")));
	int leased = MUST(open(victim_beside("leased"), O_RDONLY));
	MUST(fcntl(leased, F_SETLEASE, F_RDLCK));
	MUST(mkfifo(victim_beside("fifo"), 0600));
	int reader = MUST(open(victim_beside("fifo"), O_RDONLY | O_NONBLOCK));
	int writer = MUST(open(victim_beside("fifo"), O_WRONLY));
	MUST(fcntl(writer, F_SETPIPE_SZ, 16384));
	MUST(write(writer, "first", 5));
	victim_ready();
	victim_wait();

	CHECK(fcntl(again, F_GETFD) == 0, "the second descriptor");
	struct flock found = blocker("own", 15);
	CHECK(found.l_type == F_WRLCK && found.l_start == 10 && found.l_len == 20 && found.l_pid == getpid(), "range: %d, %ld + %ld of %d",
	      found.l_type, (long)found.l_start, (long)found.l_len, found.l_pid);
	found = blocker("own", 900);
	CHECK(found.l_type == F_RDLCK && found.l_start == 500 && found.l_len == 0, "range to the end");
	CHECK(blocker("own", 5).l_type == F_UNLCK, "a byte that was free is locked");
	found = blocker("described", 5);
	CHECK(found.l_type == F_WRLCK && found.l_pid == -1 && found.l_start == 3 && found.l_len == 4, "lock of a description");
	int other = MUST(open(victim_beside("whole"), O_RDWR));
	CHECK(flock(other, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK, "flock is gone");
	int third = MUST(open(victim_beside("described"), O_RDWR));
	CHECK(flock(third, LOCK_SH | LOCK_NB) == 0 && flock(third, LOCK_EX | LOCK_NB) == -1, "the shared flock");
	MUST(flock(whole, LOCK_UN));
	CHECK(flock(other, LOCK_EX | LOCK_NB) == 0, "flock is held by more than its description");
	CHECK(fcntl(leased, F_GETLEASE) == F_RDLCK, "the lease: %d", fcntl(leased, F_GETLEASE));
	check_fifo(reader, writer);
	return victim_pass();
}
