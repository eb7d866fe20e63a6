/*
 * An IPC namespace of the tree's own: System V shared memory (attached, in parts by a child, and by nobody), semaphores and message
 * queues with keys, owners and messages, and the namespace's settings. With `outside` a process that is not of the tree is in
 * the namespace too; with `posix` it has a POSIX message queue; with `large` a message that could not be sent any more.
 */
#include "victim.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>

#define PAGE 4096
#define KEY 0x1234
#define MESSAGES 5

static const char *const settings[][2] = {
	{"kernel/sem", "300 40000 50 200"},
	{"kernel/msgmax", "6000"},
	{"kernel/msgmnb", "7000"},
	{"kernel/msgmni", "100"},
	{"kernel/shmmax", "40000000"},
	{"kernel/shmall", "20000"},
	{"kernel/shmmni", "77"},
	{"fs/mqueue/queues_max", "99"},
	{"fs/mqueue/msg_max", "33"},
	{"fs/mqueue/msgsize_max", "4444"},
	{"fs/mqueue/msg_default", "8"},
	{"fs/mqueue/msgsize_default", "2222"},
};

struct message {
	long type;
	char text[9000];
};

static int attached, alone, sets[2], queues[3];
static unsigned char *mine;
static volatile int *shared;

static void setting(const char *name, char *value, int is_new)
{
	char path[100];
	snprintf(path, sizeof path, "/proc/sys/%s", name);
	int file = MUST(open(path, is_new ? O_WRONLY : O_RDONLY));
	if (is_new) {
		MUST(write(file, value, strlen(value)));
	} else {
		int len = MUST(read(file, value, 99));
		value[len] = 0;
		for (char *at = value; *at; at++) {
			if (*at == '\t')
				*at = ' ';
			if (*at == '\n')
				*at = 0;
		}
	}
	close(file);
}

static void post(int queue, long type, int length, char first)
{
	static struct message message;
	message.type = type;
	for (int at = 0; at < length; at++)
		message.text[at] = first + at % 50;
	MUST(msgsnd(queue, &message, length, IPC_NOWAIT));
}

static void expect(int queue, long wanted, long type, int length, char first)
{
	static struct message message;
	int got = msgrcv(queue, &message, sizeof message.text, wanted, IPC_NOWAIT);
	CHECK(got == length && message.type == type, "queue %d: %d bytes of type %ld, wanted %d of %ld: %s", queue, got,
	      message.type, length, type, strerror(errno));
	for (int at = 0; at < length; at++)
		CHECK(message.text[at] == (char)(first + at % 50), "queue %d: byte %d of a message", queue, at);
}

static void check_owner(const char *what, struct ipc_perm *is, int key, int mode, int uid, int cuid)
{
	CHECK(is->__key == key && is->mode == mode && (int)is->uid == uid && (int)is->cuid == cuid,
	      "%s: key %x, mode %o, owner %d, maker %d", what, is->__key, is->mode, is->uid, is->cuid);
}

static void child(void)
{
	unsigned char *here = shmat(attached, NULL, 0);
	shared[0] = 1;
	while (shared[1] != 1)
		usleep(10000);
	here[7] = 77;
	/* What the parent takes wakes it up. */
	struct sembuf give = {0, 1, 0};
	semop(sets[0], &give, 1);
	while (shared[1] != 2)
		usleep(10000);
	_exit(0);
}

static void set_up(void)
{
	for (unsigned at = 0; at < sizeof settings / sizeof *settings; at++)
		setting(settings[at][0], (char *)settings[at][1], 1);
	/* Ids with gaps: what was before them is gone. */
	int gone = MUST(shmget(IPC_PRIVATE, PAGE, 0600));
	attached = MUST(shmget(KEY, 3 * PAGE, IPC_CREAT | IPC_EXCL | 0640));
	MUST(shmctl(gone, IPC_RMID, NULL));
	alone = MUST(shmget(IPC_PRIVATE, 2 * PAGE + 5, 0600));
	mine = shmat(alone, NULL, 0);
	memset(mine, 'a', 2 * PAGE + 5);
	MUST(shmdt(mine));
	mine = shmat(attached, NULL, 0);
	for (int at = 0; at < 3 * PAGE; at++)
		mine[at] = at * 3;
	gone = MUST(semget(IPC_PRIVATE, 1, 0600));
	sets[0] = MUST(semget(KEY, 3, IPC_CREAT | IPC_EXCL | 0660));
	MUST(semctl(gone, 0, IPC_RMID));
	MUST(semctl(sets[0], 1, SETVAL, 32767));
	MUST(semctl(sets[0], 2, SETVAL, 5));
	MUST(seteuid(1000));
	sets[1] = MUST(semget(IPC_PRIVATE, 300, 0600));
	queues[1] = MUST(msgget(IPC_PRIVATE, 0622));
	MUST(seteuid(0));
	struct semid_ds set;
	MUST(semctl(sets[1], 0, IPC_STAT, &set));
	set.sem_perm.uid = 1001;
	MUST(semctl(sets[1], 0, IPC_SET, &set));
	MUST(semctl(sets[1], 299, SETVAL, 9));
	queues[0] = MUST(msgget(KEY, IPC_CREAT | IPC_EXCL | 0600));
	for (int at = 0; at < MESSAGES; at++)
		post(queues[0], at + 1, at * 300, 'A' + at);
	struct msqid_ds queue;
	/* A queue that is smaller than what is in it. */
	MUST(msgctl(queues[0], IPC_STAT, &queue));
	queue.msg_qbytes = 100;
	MUST(msgctl(queues[0], IPC_SET, &queue));
	queues[2] = MUST(msgget(IPC_PRIVATE, 0600));
	post(queues[2], 1L << 40, 5500, 'x');
}

static void check(void)
{
	char value[100];
	for (unsigned at = 0; at < sizeof settings / sizeof *settings; at++) {
		setting(settings[at][0], value, 0);
		CHECK(!strcmp(value, settings[at][1]), "%s is %s", settings[at][0], value);
	}
	struct shmid_ds segment;
	CHECK(shmctl(attached, IPC_STAT, &segment) == 0, "the segment: %s", strerror(errno));
	check_owner("segment", &segment.shm_perm, KEY, 0640, 0, 0);
	CHECK(segment.shm_nattch == 3 && segment.shm_segsz == 3 * PAGE, "attached %d times", (int)segment.shm_nattch);
	for (int at = 0; at < 3 * PAGE; at++)
		CHECK(mine[at] == (unsigned char)(at * 3), "byte %d of the segment", at);
	CHECK(shmctl(alone, IPC_STAT, &segment) == 0 && segment.shm_nattch == 0 && segment.shm_segsz == 2 * PAGE + 5,
	      "the segment that nobody has: %s, attached %d times", strerror(errno), (int)segment.shm_nattch);
	unsigned char *other = shmat(alone, NULL, 0);
	for (int at = 0; at < 2 * PAGE + 5; at++)
		CHECK(other[at] == 'a', "byte %d of the segment that nobody has", at);
	struct semid_ds set;
	CHECK(semctl(sets[0], 0, IPC_STAT, &set) == 0 && set.sem_nsems == 3, "semaphores: %s", strerror(errno));
	check_owner("semaphores", &set.sem_perm, KEY, 0660, 0, 0);
	CHECK(semctl(sets[0], 0, GETVAL) == 0 && semctl(sets[0], 1, GETVAL) == 32767 && semctl(sets[0], 2, GETVAL) == 5, "values");
	CHECK(semctl(sets[1], 0, IPC_STAT, &set) == 0 && set.sem_nsems == 300, "other semaphores: %s", strerror(errno));
	check_owner("other semaphores", &set.sem_perm, 0, 0600, 1001, 1000);
	CHECK(semctl(sets[1], 299, GETVAL) == 9 && semctl(sets[1], 0, GETVAL) == 0, "other values");
	struct msqid_ds queue;
	CHECK(msgctl(queues[0], IPC_STAT, &queue) == 0, "queue: %s", strerror(errno));
	check_owner("queue", &queue.msg_perm, KEY, 0600, 0, 0);
	CHECK(queue.msg_qbytes == 100 && queue.msg_qnum == MESSAGES, "queue of %d bytes has %d messages", (int)queue.msg_qbytes,
	      (int)queue.msg_qnum);
	expect(queues[0], 3, 3, 600, 'C');
	expect(queues[0], 0, 1, 0, 'A');
	expect(queues[0], 0, 2, 300, 'B');
	expect(queues[0], 0, 4, 900, 'D');
	expect(queues[0], 0, 5, 1200, 'E');
	CHECK(msgctl(queues[1], IPC_STAT, &queue) == 0 && queue.msg_qnum == 0 && queue.msg_qbytes == 7000, "empty queue");
	check_owner("empty queue", &queue.msg_perm, 0, 0622, 1000, 1000);
	expect(queues[2], 0, 1L << 40, 5500, 'x');
	CHECK(shmget(KEY, 0, 0) == attached && semget(KEY, 0, 0) == sets[0] && msgget(KEY, 0) == queues[0], "keys");
	/* The namespace is the child's too. */
	shared[1] = 1;
	struct sembuf take = {0, -1, 0};
	struct timespec limit = {20, 0};
	CHECK(semtimedop(sets[0], &take, 1, &limit) == 0, "what the child gives: %s", strerror(errno));
	CHECK(mine[7] == 77, "what the child writes");
	shared[1] = 2;
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	MUST(unshare(CLONE_NEWIPC));
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	set_up();
	pid_t pid = MUST(fork());
	if (!pid)
		child();
	while (!shared[0])
		usleep(1000);
	if (argc > 2 && !strcmp(argv[2], "outside")) {
		/* An orphan in a session of its own. */
		pid_t between = MUST(fork());
		if (!between) {
			setsid();
			shmdt(mine);
			pid_t orphan = fork();
			if (!orphan)
				for (;;)
					pause();
			victim_say("child %d", orphan);
			_exit(0);
		}
		waitpid(between, NULL, 0);
	}
	if (argc > 2 && !strcmp(argv[2], "large"))
		setting("kernel/msgmax", "5000", 1);
	victim_ready();
	victim_wait();
	if (argc > 2 && !strcmp(argv[2], "large"))
		setting("kernel/msgmax", "6000", 1);
	check();
	waitpid(pid, NULL, 0);
	return victim_pass();
}
