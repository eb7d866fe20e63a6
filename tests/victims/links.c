/* Files that were deleted under the name they were opened by: with other names, without any, of every type, and with names that
 * are odd. What the kernel says of each has to be the same afterwards. */
#include "victim.h"
#include <sys/sysmacros.h>

#define MOST 32

static struct {
	int fd, flags;
	char link[700];
	struct stat stat;
} all[MOST];
static int count;

static void look(int fd, char *link, struct stat *stat)
{
	char name[40];
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	memset(link, 0, 700);
	MUST(readlink(name, link, 699));
	MUST(fstat(fd, stat));
}

static int keep(int fd)
{
	CHECK(count < MOST, "set-up: too many");
	all[count].fd = fd;
	all[count].flags = MUST(fcntl(fd, F_GETFL));
	look(fd, all[count].link, &all[count].stat);
	count++;
	return fd;
}

static void write_to(int fd, const char *text)
{
	CHECK(write(fd, text, strlen(text)) == (long)strlen(text), "set-up: write");
}

/* Makes a file, with a second name if there is one, opens it, and takes its first name away. */
static int gone(const char *name, const char *other, int flags)
{
	int fd = MUST(open(victim_beside(name), O_RDWR | O_CREAT | O_EXCL, 0640));
	write_to(fd, name);
	MUST(close(fd));
	if (other)
		MUST(link(victim_beside(name), victim_beside(other)));
	fd = MUST(open(victim_beside(name), flags));
	MUST(unlink(victim_beside(name)));
	return fd;
}

static void holds(int fd, const char *text)
{
	char got[300] = {0};
	long length = strlen(text);
	CHECK(pread(fd, got, sizeof got, 0) >= length && !memcmp(got, text, length), "descriptor %d holds [%s], wanted [%s]", fd, got, text);
}

static void fill(char *name, int with, int length)
{
	memset(name, with, length);
	name[length] = 0;
}

int main(int argc, char **argv)
{
	char got[300], longest[256];
	victim_start(argc, argv);

	int linked = gone("linked", "linked-too", O_RDWR);
	int other = MUST(open(victim_beside("linked-too"), O_RDWR));
	keep(other);
	int path_only = MUST(open(victim_beside("first"), O_RDWR | O_CREAT, 0));
	write_to(path_only, "two names");
	MUST(link(victim_beside("first"), victim_beside("second")));
	MUST(link(victim_beside("first"), victim_beside("third")));
	int second = MUST(open(victim_beside("second"), O_RDONLY));
	MUST(unlink(victim_beside("first")));
	MUST(unlink(victim_beside("second")));
	keep(path_only);
	keep(second);

	int map = gone("mapped", "mapped-too", O_RDWR);
	unsigned char *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	CHECK(memory != MAP_FAILED, "set-up: mmap");
	MUST(close(map));

	MUST(mkdir(victim_beside("folder"), 0755));
	int nested = gone("folder/file", "file-of-folder", O_WRONLY | O_APPEND);
	MUST(rmdir(victim_beside("folder")));

	fill(longest, 'l', 255);
	int odd = gone("new\nline \xff\xfe", "odd-too", O_RDONLY);
	int lengthy = gone(longest, "long-too", O_RDONLY | O_NOATIME);
	int nameless = gone("\t\xc3\x28 odd", NULL, O_RDWR | O_APPEND);

	int living = MUST(open(victim_beside("living (deleted)"), O_RDWR | O_CREAT, 0));
	int suffixed = gone("suffixed (deleted)", NULL, O_RDWR);
	int plain = MUST(open(victim_beside("suffixed"), O_RDWR | O_CREAT, 0600));
	int suffixed_too = gone("twice (deleted)", "twice-too", O_RDWR);

	int renamed = MUST(open(victim_beside("before"), O_RDWR | O_CREAT, 0600));
	MUST(rename(victim_beside("before"), victim_beside("after")));
	int over = gone("replacing", "replacing-too", O_RDWR);
	int taker = MUST(open(victim_beside("replacing"), O_RDWR | O_CREAT, 0600));
	write_to(taker, "the new one");
	int without = MUST(open(victim_beside("."), O_TMPFILE | O_RDWR, 0600));
	write_to(without, "never had a name");

	MUST(mkfifo(victim_beside("fifo"), 0620));
	int fifo = MUST(open(victim_beside("fifo"), O_RDWR | O_NONBLOCK));
	write_to(fifo, "in the fifo");
	MUST(unlink(victim_beside("fifo")));
	MUST(mkfifo(victim_beside("pipe"), 0600));
	int reader = MUST(open(victim_beside("pipe"), O_RDONLY | O_NONBLOCK));
	int writer = MUST(open(victim_beside("pipe"), O_WRONLY));
	write_to(writer, "in the pipe");
	MUST(link(victim_beside("pipe"), victim_beside("pipe-too")));
	MUST(unlink(victim_beside("pipe")));
	MUST(mknod(victim_beside("zero"), S_IFCHR | 0660, makedev(1, 5)));
	int zero = MUST(open(victim_beside("zero"), O_RDWR));
	MUST(unlink(victim_beside("zero")));
	MUST(symlink("nowhere at all", victim_beside("symlink")));
	int symbolic = MUST(open(victim_beside("symlink"), O_PATH | O_NOFOLLOW));
	MUST(unlink(victim_beside("symlink")));

	int every[] = {linked, nested, odd, lengthy, nameless, living, suffixed, plain, suffixed_too, renamed, over, taker, without,
		       fifo, reader, writer, zero};
	for (size_t at = 0; at < sizeof every / sizeof every[0]; at++)
		keep(every[at]);
	victim_ready();
	victim_wait();

	for (int at = 0; at < count; at++) {
		static char link[700];
		struct stat now;
		int fd = all[at].fd, flags = MUST(fcntl(fd, F_GETFL));
		look(fd, link, &now);
		/* How it was made is not how it is opened again. */
		CHECK((flags ^ all[at].flags) == (fd == without ? O_TMPFILE : 0) || flags == all[at].flags, "%s: flags %o, were %o", all[at].link, flags, all[at].flags);
		CHECK(fd == over || !strcmp(link, all[at].link), "%s is %s now", all[at].link, link);
		CHECK(now.st_mode == all[at].stat.st_mode && now.st_nlink == all[at].stat.st_nlink && now.st_rdev == all[at].stat.st_rdev &&
			      now.st_size == all[at].stat.st_size,
		      "%s: mode %o, %ld links, %ld bytes", link, now.st_mode, (long)now.st_nlink, now.st_size);
		/* What has a name is the very file. */
		CHECK(!now.st_nlink || now.st_ino == all[at].stat.st_ino, "%s is another file", link);
	}
	MUST(pwrite(linked, "changed", 7, 0));
	holds(other, "changed");
	holds(second, "two names");
	MUST(pwrite(path_only, "three", 5, 0));
	holds(second, "three");
	memcpy(memory, "wrote!", 6);
	holds(MUST(open(victim_beside("mapped-too"), O_RDONLY)), "wrote!");
	write_to(nested, "+more");
	holds(MUST(open(victim_beside("file-of-folder"), O_RDONLY)), "folder/file+more");
	holds(odd, "new\nline \xff\xfe");
	holds(lengthy, longest);
	holds(suffixed, "suffixed (deleted)");
	holds(suffixed_too, "twice (deleted)");
	holds(over, "replacing");
	holds(taker, "the new one");
	holds(without, "never had a name");
	CHECK(access(victim_beside("linked"), F_OK) && access(victim_beside("second"), F_OK), "a deleted name is there again");
	CHECK(read(fifo, got, sizeof got) == 11 && !memcmp(got, "in the fifo", 11), "the deleted fifo");
	CHECK(read(reader, got, sizeof got) == 11 && !memcmp(got, "in the pipe", 11), "the linked fifo");
	write_to(writer, "again");
	CHECK(read(reader, got, sizeof got) == 5, "the ends of the linked fifo are apart");
	CHECK(read(zero, got, 7) == 7 && !got[6], "the device");
	CHECK(readlinkat(symbolic, "", got, sizeof got) == 14 && !memcmp(got, "nowhere at all", 14), "the symbolic link");
	return victim_pass();
}
