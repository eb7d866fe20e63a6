/* Has one thing that a dump names as not kept, named by the second argument, and can live without it. */
#include "victim.h"
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/socket.h>

#define F_SET_RW_HINT (1024 + 12)

static void *make_child(void *child)
{
	pid_t pid = fork();
	if (!pid)
		for (;;)
			pause();
	*(volatile pid_t *)child = pid;
	for (;;)
		pause();
}

/* A file of the folder that is marked. */
static const char *marked(int number)
{
	char name[40];
	snprintf(name, sizeof name, "marked/%d", number);
	return victim_beside(name);
}

static void touch(int number)
{
	MUST(close(MUST(open(marked(number), O_WRONLY | O_CREAT, 0600))));
}

/* What is told of a file that is closed now is told, and nothing before it. */
static void expect_event(int fan, int number)
{
	struct fanotify_event_metadata event;
	struct stat told_of, wanted;
	touch(number);
	CHECK(read(fan, &event, sizeof event) == sizeof event, "no event: %s", strerror(errno));
	fstat(event.fd, &told_of);
	stat(marked(number), &wanted);
	CHECK(event.mask == FAN_CLOSE_WRITE && told_of.st_ino == wanted.st_ino, "an event of another file");
	CHECK(read(fan, &event, sizeof event) == -1 && errno == EAGAIN, "one event more");
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	const char *kind = argc > 2 ? argv[2] : "";
	if (!strcmp(kind, "events")) {
		MUST(mkdir(victim_beside("marked"), 0700));
		for (int at = 0; at < 3; at++)
			touch(at);
	}
	if (!strcmp(kind, "keyring")) {
		MUST(syscall(SYS_keyctl, 0 /* GET_KEYRING_ID */, -2 /* of the process */, 1));
		MUST(syscall(SYS_keyctl, 0, -1 /* of the thread */, 1));
	} else if (!strcmp(kind, "watch")) {
		int counter = MUST(eventfd(1, 0)), poller = MUST(epoll_create1(0));
		struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT};
		MUST(epoll_ctl(poller, EPOLL_CTL_ADD, counter, &event));
		CHECK(epoll_wait(poller, &event, 1, 0) == 1, "set-up: no event");
	} else if (!strcmp(kind, "datagram")) {
		/* At an address of its own: nobody else takes it meanwhile. Another has the port too. */
		struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f4e0000 | (getpid() & 0xffff))};
		socklen_t length = sizeof name;
		int both[2], on = 1;
		for (int one = 0; one < 2; one++) {
			both[one] = MUST(socket(AF_INET, SOCK_DGRAM, 0));
			MUST(setsockopt(both[one], SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
			MUST(bind(both[one], (struct sockaddr *)&name, sizeof name));
			MUST(getsockname(both[one], (struct sockaddr *)&name, &length));
		}
		MUST(sendto(both[0], "x", 1, 0, (struct sockaddr *)&name, sizeof name));
	} else if (!strcmp(kind, "events")) {
		/* Two files are opened; the third is after the restore, and told. */
		int fan = MUST(fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY));
		MUST(fanotify_mark(fan, FAN_MARK_ADD, FAN_CLOSE_WRITE | FAN_EVENT_ON_CHILD, -1, victim_beside("marked")));
		for (int at = 0; at < 2; at++)
			touch(at);
		victim_ready();
		victim_wait();
		expect_event(fan, 2);
		return victim_pass();
	} else if (!strcmp(kind, "hint")) {
		uint64_t hint = 2;
		int memory = MUST(memfd_create("short-lived", 0));
		MUST(fcntl(memory, F_SET_RW_HINT, &hint));
	} else if (!strcmp(kind, "semaphore")) {
		int id = MUST(semget(IPC_PRIVATE, 1, IPC_CREAT | 0600));
		struct sembuf up = {0, 3, SEM_UNDO};
		victim_say("semaphores %d", id);
		MUST(semop(id, &up, 1));
	} else if (!strcmp(kind, "stamp")) {
		int ends[2], on = 1;
		MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends));
		MUST(setsockopt(ends[0], SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on));
		MUST(send(ends[1], "when?", 5, 0));
	} else if (!strcmp(kind, "login")) {
		int file = MUST(open("/proc/self/loginuid", O_WRONLY));
		MUST(write(file, "4711", 4));
		MUST(close(file));
	} else if (!strcmp(kind, "thread")) {
		static pid_t child;
		pthread_t thread;
		pthread_create(&thread, NULL, make_child, &child);
		while (!*(volatile pid_t *)&child)
			usleep(1000);
		victim_say("child %d", child);
	} else {
		CHECK(!strcmp(kind, "cgroup") || !strcmp(kind, "nothing"), "set-up: nothing is called %s", kind);
	}
	victim_ready();
	victim_wait();
	return victim_pass();
}
