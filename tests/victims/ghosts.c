/* Deleted files: open twice, sparse, mapped, with their name taken by another, and the folder that the process stands in. */
#include "victim.h"

#define SIZE 100000
#define HOLE (64L << 20)

static unsigned char pattern[SIZE], got[SIZE];

static int create(const char *name, mode_t mode)
{
	return MUST(open(victim_beside(name), O_RDWR | O_CREAT | O_EXCL, mode));
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	for (int at = 0; at < SIZE; at++)
		pattern[at] = at * 11 + at / 257;
	int plain = create("plain", 0640);
	MUST(write(plain, pattern, SIZE));
	int other = MUST(open(victim_beside("plain"), O_RDONLY));
	int path_only = MUST(open(victim_beside("plain"), O_PATH));
	MUST(lseek(other, 777, SEEK_SET));
	MUST(fchown(plain, 12, 34));
	MUST(unlink(victim_beside("plain")));
	struct stat before, now;
	MUST(fstat(plain, &before));

	int sparse = create("sparse", 0600);
	MUST(pwrite(sparse, "begin", 5, 0));
	MUST(pwrite(sparse, "end", 3, HOLE));
	MUST(unlink(victim_beside("sparse")));

	int replaced = create("replaced", 0600);
	MUST(write(replaced, "old", 3));
	MUST(unlink(victim_beside("replaced")));
	int replacing = create("replaced", 0600);
	MUST(write(replacing, "new", 3));

	int file = create("mapped", 0600);
	MUST(write(file, pattern, SIZE));
	unsigned char *shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	unsigned char *own = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	CHECK(shared != MAP_FAILED && own != MAP_FAILED, "mmap: %s", strerror(errno));
	shared[5000] = 200;
	own[9000] = 100;
	MUST(close(file));
	MUST(unlink(victim_beside("mapped")));

	MUST(mkdir(victim_beside("folder"), 0750));
	int folder = MUST(open(victim_beside("folder"), O_RDONLY | O_DIRECTORY));
	MUST(chdir(victim_beside("folder")));
	MUST(rmdir(victim_beside("folder")));
	victim_ready();
	victim_wait();

	MUST(fstat(plain, &now));
	CHECK(now.st_nlink == 0 && now.st_mode == before.st_mode && now.st_uid == 12 && now.st_gid == 34, "%lu links, mode %o, owner %d",
	      (long)now.st_nlink, now.st_mode, now.st_uid);
	CHECK(now.st_size == SIZE && now.st_mtim.tv_sec == before.st_mtim.tv_sec, "size %ld, time %ld, was %ld", now.st_size,
	      now.st_mtim.tv_sec, before.st_mtim.tv_sec);
	CHECK(pread(plain, got, SIZE, 0) == SIZE && !memcmp(got, pattern, SIZE), "content");
	CHECK(lseek(plain, 0, SEEK_CUR) == SIZE && lseek(other, 0, SEEK_CUR) == 777, "offsets");
	MUST(pwrite(plain, "changed", 7, 0));
	CHECK(pread(other, got, 7, 0) == 7 && !memcmp(got, "changed", 7), "the two descriptions are of two files");
	CHECK(fcntl(path_only, F_GETFL) & O_PATH, "O_PATH");
	char name[40], link[600] = {0};
	snprintf(name, sizeof name, "/proc/self/fd/%d", plain);
	CHECK(readlink(name, link, sizeof link - 1) > 10 && !strcmp(link + strlen(link) - 16, "/plain (deleted)"), "its name is %s", link);
	CHECK(access(victim_beside("plain"), F_OK) && errno == ENOENT, "the deleted file has a name again");

	struct stat large;
	MUST(fstat(sparse, &large));
	CHECK(large.st_size == HOLE + 3 && large.st_blocks < 1000, "%ld bytes in %ld blocks", large.st_size, large.st_blocks);
	CHECK(pread(sparse, got, 3, HOLE) == 3 && !memcmp(got, "end", 3), "the end of a sparse file");
	CHECK(pread(sparse, got, 5, 0) == 5 && !memcmp(got, "begin", 5), "the beginning of a sparse file");
	CHECK(pread(replaced, got, 9, 0) == 3 && !memcmp(got, "old", 3), "the replaced file");
	CHECK(pread(replacing, got, 9, 0) == 3 && !memcmp(got, "new", 3), "the replacing file");

	CHECK(shared[5000] == 200 && own[9000] == 100 && own[5000] == 200, "mappings of a deleted file");
	CHECK(shared[9000] == pattern[9000] && shared[SIZE - 1] == pattern[SIZE - 1], "mapped content");
	shared[60000] = 1;
	CHECK(own[60000] == 1, "the two mappings are of two files");

	MUST(fstat(folder, &now));
	CHECK(S_ISDIR(now.st_mode) && now.st_nlink == 0 && (now.st_mode & 07777) == 0750, "the folder: mode %o", now.st_mode);
	CHECK(stat(".", &before) == 0 && before.st_ino == now.st_ino, "it does not stand in its folder");
	CHECK(open("file", O_CREAT | O_RDWR, 0600) == -1 && errno == ENOENT, "the deleted folder takes files");
	return victim_pass();
}
