/*
 * POSIX message queues: priorities and order of messages, attributes, owner, flags of each description, one without a name, one
 * that is waited for, one whose next message is told by a signal. In the namespace of all, or ("own") in one of its own with
 * settings, and queues that nobody has open. "remove NAME..." and "send NAME" are for whoever tests.
 */
#include "victim.h"
#include <mqueue.h>
#include <sys/wait.h>

#define TOLD (SIGRTMIN + 2)

static char names[5][64];
static mqd_t reader, writer, twin, nameless[2], told, waited;
static volatile int *shared;
static int is_own;
static volatile sig_atomic_t times_told;

static void on_told(int number, siginfo_t *info, void *context)
{
	(void)number, (void)context;
	if (info->si_code == SI_MESGQ)
		times_told++;
}

static void post(mqd_t queue, const char *text, int priority)
{
	MUST(mq_send(queue, text, strlen(text), priority));
}

static void expect(mqd_t queue, const char *text, unsigned priority)
{
	char got[9000];
	unsigned was = 99;
	int length = mq_receive(queue, got, sizeof got, &was);
	CHECK(length == (int)strlen(text) && !memcmp(got, text, length) && was == priority,
	      "%d bytes of priority %u instead of \"%s\": %s", length, was, text, strerror(errno));
}

static void expect_attributes(mqd_t queue, long flags, long most, long size, long now)
{
	struct mq_attr is;
	CHECK(mq_getattr(queue, &is) == 0, "attributes: %s", strerror(errno));
	CHECK(is.mq_flags == flags && is.mq_maxmsg == most && is.mq_msgsize == size && is.mq_curmsgs == now,
	      "flags %lx, %ld messages of %ld bytes, %ld there", is.mq_flags, is.mq_maxmsg, is.mq_msgsize, is.mq_curmsgs);
}

static void setting(const char *name, char *value, int is_write)
{
	char path[100];
	snprintf(path, sizeof path, "/proc/sys/fs/mqueue/%s", name);
	int fd = MUST(open(path, is_write ? O_WRONLY : O_RDONLY));
	if (is_write)
		MUST(write(fd, value, strlen(value)));
	else
		value[MUST(read(fd, value, 99))] = 0;
	close(fd);
}

static void set_up(void)
{
	/* Small: what all queues of a user may take together is limited. */
	struct mq_attr attributes = {0, 6, 300, 0};
	for (int at = 0; at < 5; at++) {
		snprintf(names[at], sizeof names[at], "/victim-%d-%c", getpid(), 'a' + at);
		victim_say("queue %s", names[at]);
	}
	mqd_t first = MUST(mq_open(names[0], O_CREAT | O_EXCL | O_RDWR, 0600, &attributes));
	MUST(fchmod(first, 0646));
	reader = MUST(mq_open(names[0], O_RDONLY | O_NONBLOCK));
	writer = MUST(mq_open(names[0], O_WRONLY));
	MUST(mq_close(first));
	twin = MUST(dup(writer));
	post(writer, "first", 5);
	post(writer, "last", 0);
	post(writer, "urgent", 32767);
	post(writer, "second", 5);
	post(writer, "", 5);
	nameless[0] = MUST(mq_open(names[1], O_CREAT | O_EXCL | O_RDWR, 0600, &attributes));
	nameless[1] = MUST(mq_open(names[1], O_RDONLY | O_NONBLOCK));
	MUST(mq_unlink(names[1]));
	post(nameless[0], "without a name", 1);
	told = MUST(mq_open(names[2], O_CREAT | O_EXCL | O_RDWR, 0600, &attributes));
	struct sigaction action = {.sa_sigaction = on_told, .sa_flags = SA_SIGINFO};
	MUST(sigaction(TOLD, &action, NULL));
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = TOLD};
	MUST(mq_notify(told, &event));
	waited = MUST(mq_open(names[3], O_CREAT | O_EXCL | O_RDWR, 0600, &attributes));
	if (is_own) {
		/* Larger than the settings allow by now, of another owner, and open nowhere. */
		setting("msgsize_max", "20000", 1);
		setting("msg_max", "50", 1);
		struct mq_attr large = {0, 12, 9000, 0};
		MUST(seteuid(1000));
		mqd_t queue = MUST(mq_open(names[4], O_CREAT | O_EXCL | O_RDWR, 0622, &large));
		MUST(seteuid(0));
		post(queue, "nobody has me open", 3);
		MUST(mq_close(queue));
		setting("msg_max", "7", 1);
		setting("msgsize_max", "8888", 1);
		setting("queues_max", "77", 1);
	}
}

static void child(void)
{
	char got[300];
	shared[0] = 1;
	for (;;) {
		int length = mq_receive(waited, got, sizeof got, NULL);
		if (length == 4 && !memcmp(got, "stop", 4))
			break;
		_exit(9);
	}
	shared[0] = 2;
	/* Its descriptions are its parent's. */
	struct mq_attr flags = {O_NONBLOCK, 0, 0, 0};
	mq_setattr(writer, &flags, NULL);
	_exit(0);
}

static void check(pid_t pid)
{
	char link[100], path[100];
	expect_attributes(reader, O_NONBLOCK, 6, 300, 5);
	expect_attributes(writer, 0, 6, 300, 5);
	CHECK(fcntl(reader, F_GETFD) == FD_CLOEXEC && fcntl(twin, F_GETFD) == 0, "close-on-exec");
	CHECK((fcntl(writer, F_GETFL) & O_ACCMODE) == O_WRONLY, "direction");
	struct stat is;
	fstat(reader, &is);
	CHECK((is.st_mode & 07777) == 0646 && is.st_uid == 0, "mode %o", is.st_mode);
	CHECK(mq_send(twin, "third", 5, 5) == 0, "it takes one more: %s", strerror(errno));
	expect(reader, "urgent", 32767);
	expect(reader, "first", 5);
	expect(reader, "second", 5);
	expect(reader, "", 5);
	expect(reader, "third", 5);
	expect(reader, "last", 0);
	CHECK(mq_receive(reader, link, sizeof link, NULL) == -1, "there is more");
	mqd_t again = mq_open(names[0], O_WRONLY);
	CHECK(again >= 0 && mq_send(again, "by name", 7, 1) == 0, "its name: %s", strerror(errno));
	expect(reader, "by name", 1);
	expect_attributes(nameless[1], O_NONBLOCK, 6, 300, 1);
	expect(nameless[1], "without a name", 1);
	CHECK(mq_open(names[1], O_RDONLY) == -1 && errno == ENOENT, "the one without a name has one");
	snprintf(path, sizeof path, "/proc/self/fd/%d", nameless[0]);
	link[readlink(path, link, sizeof link - 1)] = 0;
	CHECK(!strncmp(link, names[1], strlen(names[1])) && strstr(link, "(deleted)"), "it is called %s", link);
	CHECK(times_told == 0, "told of nothing");
	post(told, "news", 0);
	CHECK(times_told == 1, "told %d times", (int)times_told);
	post(told, "more", 0);
	CHECK(times_told == 1, "told again");
	post(waited, "stop", 0);
	int status = -1;
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "the child: %x", status);
	expect_attributes(twin, O_NONBLOCK, 6, 300, 0);
	if (is_own) {
		static const char *const settings[][2] = {{"msg_max", "7\n"}, {"msgsize_max", "8888\n"}, {"queues_max", "77\n"}};
		for (int at = 0; at < 3; at++) {
			setting(settings[at][0], link, 0);
			CHECK(!strcmp(link, settings[at][1]), "%s is %s", settings[at][0], link);
		}
		mqd_t queue = mq_open(names[4], O_RDONLY);
		CHECK(queue >= 0, "the one that nobody has open: %s", strerror(errno));
		expect_attributes(queue, 0, 12, 9000, 1);
		fstat(queue, &is);
		CHECK((is.st_mode & 07777) == 0600 && is.st_uid == 1000, "mode %o of %d", is.st_mode, is.st_uid);
		expect(queue, "nobody has me open", 3);
	}
	for (int at = 0; at < 5; at++)
		mq_unlink(names[at]);
}

static int serve(int argc, char **argv)
{
	for (int at = 2; at < argc; at++) {
		mqd_t queue = mq_open(argv[at], O_WRONLY | O_NONBLOCK);
		if (!strcmp(argv[1], "send") && (queue < 0 || mq_send(queue, "changed", 7, 9)))
			return 1;
		if (!strcmp(argv[1], "remove"))
			mq_unlink(argv[at]);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 2 && (!strcmp(argv[1], "send") || !strcmp(argv[1], "remove")))
		return serve(argc, argv);
	victim_start(argc, argv);
	if (argc > 2 && !strcmp(argv[2], "hold")) {
		MUST(mq_open(argv[3], O_RDONLY));
		victim_ready();
		victim_wait();
		return victim_pass();
	}
	is_own = argc > 2 && !strcmp(argv[2], "own");
	umask(077);
	if (is_own)
		MUST(unshare(CLONE_NEWIPC));
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	set_up();
	if (argc > 2 && !strcmp(argv[2], "full"))
		post(told, "one already", 0);
	pid_t pid = MUST(fork());
	if (!pid)
		child();
	while (!shared[0])
		usleep(1000);
	if (argc > 2 && !strcmp(argv[2], "full")) {
		struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = TOLD};
		times_told = 0;
		MUST(mq_notify(told, &event));
	}
	victim_ready();
	victim_wait();
	if (argc > 2 && !strcmp(argv[2], "full"))
		expect(told, "one already", 0);
	check(pid);
	return victim_pass();
}
