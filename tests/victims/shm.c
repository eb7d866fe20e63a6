/*
 * System V shared memory: attached twice, for reading only, in parts, by a child, removed, locked, of other owners.
 */
#include "victim.h"
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/wait.h>

#define PAGE 4096

static struct shared {
	volatile int asked, done;
	char why[200];
} *shared;

static int plain, removed, owned, untouched;
static key_t key;
static unsigned char *whole, *again, *reader, *parts, *gone, *theirs, *empty;

static unsigned char pattern(int at)
{
	return at * 7 + at / PAGE;
}

/* Read and write: 1 or 0 for each of 4 pages. */
static const char *check_protection(const unsigned char *at, const char *wanted)
{
	static char seen[20], line[300];
	FILE *maps = fopen("/proc/self/maps", "r");
	strcpy(seen, "----");
	while (fgets(line, sizeof line, maps)) {
		unsigned long start, end;
		char access[5];
		if (!strstr(line, "/SYSV") || sscanf(line, "%lx-%lx %4s", &start, &end, access) != 3)
			continue;
		for (int page = 0; page < 4; page++) {
			unsigned long here = (unsigned long)at + page * PAGE;
			if (start <= here && here < end)
				seen[page] = access[1] == 'w' ? 'w' : access[0] == 'r' ? 'r' : 'n';
		}
	}
	fclose(maps);
	return strcmp(seen, wanted) ? seen : NULL;
}

static void check_segment(int id, key_t wanted, size_t size, int mode, int uid, int cuid, int attached)
{
	struct shmid_ds is;
	CHECK(shmctl(id, IPC_STAT, &is) == 0, "segment %d: %s", id, strerror(errno));
	CHECK(is.shm_perm.__key == wanted && is.shm_segsz == size, "key %x or size %zu of segment %d", is.shm_perm.__key,
	      is.shm_segsz, id);
	CHECK(is.shm_perm.mode == mode, "mode of segment %d: %o, wanted %o", id, is.shm_perm.mode, mode);
	CHECK((int)is.shm_perm.uid == uid && (int)is.shm_perm.cuid == cuid, "owner %d or maker %d of segment %d", is.shm_perm.uid,
	      is.shm_perm.cuid, id);
	CHECK((int)is.shm_nattch == attached, "segment %d: attached %d times, wanted %d", id, (int)is.shm_nattch, attached);
}

static void child(void)
{
	while (!shared->asked)
		usleep(10000);
	if (again[5] != 99 || whole[5] != 99)
		strcpy(shared->why, "what the parent writes is not seen");
	whole[6] = 98;
	if (shmdt(again))
		strcpy(shared->why, "the child cannot detach");
	shared->done = 1;
	while (shared->asked != 2)
		usleep(10000);
	_exit(0);
}

int main(int argc, char **argv)
{
	const char *why;
	victim_start(argc, argv);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	key = 0x5e000000 | getpid();
	plain = MUST(shmget(key, 3 * PAGE + 100, IPC_CREAT | IPC_EXCL | 0640));
	victim_say("segment %d", plain);
	whole = shmat(plain, NULL, 0);
	again = shmat(plain, NULL, 0);
	reader = shmat(plain, NULL, SHM_RDONLY);
	parts = shmat(plain, NULL, 0);
	for (int at = 0; at < 3 * PAGE + 100; at++)
		whole[at] = pattern(at);
	memset(whole + PAGE, 0, PAGE);
	munmap(parts + PAGE, PAGE);
	void *between = mmap(parts + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	mprotect(parts + 2 * PAGE, PAGE, PROT_READ);
	removed = MUST(shmget(IPC_PRIVATE, PAGE, 0600));
	gone = shmat(removed, NULL, 0);
	MUST(shmctl(removed, IPC_RMID, NULL));
	strcpy((char *)gone, "removed");
	MUST(seteuid(1000));
	owned = MUST(shmget(IPC_PRIVATE, PAGE, 0666));
	MUST(seteuid(0));
	theirs = shmat(owned, NULL, 0);
	strcpy((char *)theirs, "theirs");
	struct shmid_ds set;
	MUST(shmctl(owned, IPC_STAT, &set));
	set.shm_perm.uid = 1001;
	MUST(shmctl(owned, IPC_SET, &set));
	MUST(shmctl(owned, SHM_LOCK, NULL));
	untouched = MUST(shmget(IPC_PRIVATE, 100, 0600));
	empty = shmat(untouched, NULL, 0);
	MUST(shmctl(untouched, IPC_RMID, NULL));
	victim_say("segment %d", owned);
	int file = MUST(open(victim_beside("mapped"), O_RDWR | O_CREAT, 0600));
	MUST(ftruncate(file, PAGE));
	CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) != MAP_FAILED, "set-up: a mapped file");
	MUST(close(file));
	pid_t pid = MUST(fork());
	if (!pid)
		child();
	victim_ready();
	victim_wait();
	for (int at = 0; at < 3 * PAGE + 100; at++) {
		unsigned char wanted = at / PAGE == 1 ? 0 : pattern(at);
		CHECK(whole[at] == wanted && again[at] == wanted && reader[at] == wanted, "byte %d", at);
		CHECK(at / PAGE == 1 || parts[at] == wanted, "byte %d of a part", at);
	}
	CHECK(!strcmp((char *)gone, "removed") && !strcmp((char *)theirs, "theirs") && !empty[0], "contents");
	/* The parts are three areas, of two attachments less the middle one. */
	check_segment(plain, key, 3 * PAGE + 100, 0640, 0, 0, 12);
	check_segment(removed, 0, PAGE, 0600 | SHM_DEST, 0, 0, 2);
	check_segment(owned, 0, PAGE, 0666 | SHM_LOCKED, 1001, 1000, 2);
	check_segment(untouched, 0, 100, 0600 | SHM_DEST, 0, 0, 2);
	CHECK(!(why = check_protection(whole, "wwww")), "protection %s", why);
	CHECK(!(why = check_protection(reader, "rrrr")), "protection for reading %s", why);
	CHECK(!(why = check_protection(parts, "w-rw")), "protection of parts %s", why);
	CHECK(mprotect(reader, PAGE, PROT_WRITE) == -1, "what is for reading can be written");
	CHECK(mprotect(parts + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0, "a part cannot be written again");
	CHECK(!*(char *)between, "what lies between parts");
	whole[5] = 99;
	CHECK(again[5] == 99 && reader[5] == 99 && parts[5] == 99, "attachments are no longer one");
	shared->asked = 1;
	for (int tries = 0; !shared->done && tries < 3000; tries++)
		usleep(10000);
	CHECK(shared->done && !shared->why[0], "child: %s", shared->why);
	CHECK(whole[6] == 98, "what the child writes is not seen");
	CHECK(shmdt(parts) == 0 && shmdt(again) == 0 && shmdt(reader) == 0 && shmdt(gone) == 0, "detaching: %s", strerror(errno));
	check_segment(plain, key, 3 * PAGE + 100, 0640, 0, 0, 1 + 5);
	shared->asked = 2;
	waitpid(pid, NULL, 0);
	struct shmid_ds is;
	CHECK(shmctl(removed, IPC_STAT, &is) == -1, "a removed segment is left");
	CHECK(shmget(key, 0, 0) == plain, "the key");
	CHECK(shmctl(plain, IPC_RMID, NULL) == 0 && shmctl(owned, IPC_RMID, NULL) == 0, "removal");
	return victim_pass();
}
