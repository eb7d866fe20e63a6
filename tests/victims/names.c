/*
 * A deleted file that had three names: the process has it open by one, its child by another and a mapping of the third. With
 * "readonly" it has a file open that a mount has read-only, and deletes it by the name that its fourth argument is.
 */
#include "victim.h"
#include <sys/wait.h>

static int called(int fd, const char *name)
{
	char link[64], path[600] = {0}, wanted[600];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	CHECK(readlink(link, path, sizeof path - 1) > 0, "readlink: %s", strerror(errno));
	snprintf(wanted, sizeof wanted, "%s (deleted)", name);
	return !strcmp(path, wanted);
}

static int readonly(char **argv)
{
	char text[20] = {0};
	int file = MUST(open(argv[3], O_RDONLY));
	MUST(unlink(argv[4]));
	victim_ready();
	victim_wait();
	struct stat stat;
	CHECK(pread(file, text, sizeof text - 1, 0) == 7 && !strcmp(text, "content"), "its content is [%s]", text);
	CHECK(!fstat(file, &stat) && stat.st_nlink == 0 && (stat.st_mode & 07777) == 0640, "it has %d links, mode %o", (int)stat.st_nlink, stat.st_mode);
	CHECK(called(file, argv[3]), "it is called otherwise");
	CHECK(fchmod(file, 0600) == -1 && errno == EROFS, "its mount is not read-only");
	return victim_pass();
}

int main(int argc, char **argv)
{
	int ask[2], answer[2];
	victim_start(argc, argv);
	if (argc > 4 && !strcmp(argv[2], "readonly"))
		return readonly(argv);
	int one = MUST(open(victim_beside("one"), O_RDWR | O_CREAT | O_EXCL, 0600));
	MUST(write(one, "shared", 6));
	MUST(link(victim_beside("one"), victim_beside("two")));
	MUST(link(victim_beside("one"), victim_beside("three")));
	int three = MUST(open(victim_beside("three"), O_RDWR));
	char *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, three, 0);
	CHECK(mapped != MAP_FAILED, "set-up: mmap");
	MUST(close(three));
	MUST(pipe(ask));
	MUST(pipe(answer));
	pid_t child = MUST(fork());
	if (!child) {
		char text[7] = {0};
		MUST(close(one));
		MUST(munmap(mapped, 4096));
		int two = MUST(open(victim_beside("two"), O_RDONLY));
		MUST(write(answer[1], "r", 1));
		MUST(read(ask[0], text, 1));
		int is_right = pread(two, text, 6, 0) == 6 && !memcmp(text, "SHARED", 6) && called(two, victim_beside("two"));
		MUST(write(answer[1], is_right ? "y" : "n", 1));
		_exit(0);
	}
	char c;
	MUST(read(answer[0], &c, 1));
	MUST(unlink(victim_beside("one")));
	MUST(unlink(victim_beside("two")));
	MUST(unlink(victim_beside("three")));
	victim_ready();
	victim_wait();

	struct stat stat;
	CHECK(!fstat(one, &stat) && stat.st_nlink == 0 && stat.st_size == 6, "it has %d links and %ld bytes", (int)stat.st_nlink, (long)stat.st_size);
	CHECK(called(one, victim_beside("one")), "the first name");
	MUST(pwrite(one, "SHA", 3, 0));
	memcpy(mapped + 3, "RED", 3);
	MUST(write(ask[1], "?", 1));
	CHECK(read(answer[0], &c, 1) == 1 && c == 'y', "the child has another file, or calls it otherwise");
	MUST(waitpid(child, NULL, 0));
	return victim_pass();
}
