/*
 * Holds one thing that a dump refuses, named by the second argument, and checks that it still works. What is to be set up
 * and what is to be checked stand side by side.
 */
#include "victim.h"
#include <linux/aio_abi.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/file.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static int fd = -1;
static pid_t child;
static char *memory, text[600];
static aio_context_t ring;
static volatile int done;
static pthread_barrier_t barrier;
static int thread_unshares;

/* A thread that has something for itself. */
static void *apart(void *unused)
{
	(void)unused;
	MUST(unshare(thread_unshares));
	if (thread_unshares == CLONE_FILES)
		MUST(dup2(0, 500));
	pthread_barrier_wait(&barrier);
	while (!done)
		usleep(10000);
	return NULL;
}

static void thread_with(int unshares)
{
	pthread_t thread;
	thread_unshares = unshares;
	pthread_barrier_init(&barrier, NULL, 2);
	CHECK(!pthread_create(&thread, NULL, apart, NULL), "set-up: pthread_create");
	pthread_barrier_wait(&barrier);
}

static void *mapped(int flags, int file)
{
	void *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, flags, file, 0);
	CHECK(at != MAP_FAILED, "set-up: mmap: %s", strerror(errno));
	return at;
}

static int made(const char *name)
{
	int file = MUST(open(victim_beside(name), O_RDWR | O_CREAT, 0600));
	MUST(ftruncate(file, 8192));
	MUST(pwrite(file, "data", 4, 0));
	return file;
}

static void socket_up(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	snprintf(name.sun_path, sizeof name.sun_path, "%s", victim_beside("socket"));
	fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(bind(fd, (struct sockaddr *)&name, sizeof name));
	MUST(listen(fd, 3));
	/* r0 = 65535; exit: the shortest program that is a filter. */
	uint64_t code[] = {0x0000ffff000000b7, 0x95};
	struct {
		uint32_t type, count;
		uint64_t code, license;
		char rest[112];
	} program = {1 /* BPF_PROG_TYPE_SOCKET_FILTER */, 2, (uintptr_t)code, (uintptr_t)"GPL", {0}};
	int filter = MUST(syscall(SYS_bpf, 5 /* BPF_PROG_LOAD */, &program, sizeof program));
	MUST(setsockopt(fd, SOL_SOCKET, 50 /* SO_ATTACH_BPF */, &filter, sizeof filter));
	MUST(close(filter));
}
static void socket_check(void)
{
	int on = 0;
	socklen_t length = sizeof on;
	CHECK(!getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &length) && on, "it does not listen");
}

/* A connection waits to be accepted. */
static void queued_up(void)
{
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof name;
	fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
	MUST(bind(fd, (struct sockaddr *)&name, sizeof name));
	MUST(listen(fd, 3));
	MUST(getsockname(fd, (struct sockaddr *)&name, &length));
	int client = MUST(socket(AF_INET, SOCK_STREAM, 0));
	MUST(connect(client, (struct sockaddr *)&name, sizeof name));
}

static void corked_up(void)
{
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	fd = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	MUST(sendto(fd, "a part", 6, MSG_MORE, (struct sockaddr *)&name, sizeof name));
}

/* Where the kernel has no MPTCP, one that is corked. */
static void mptcp_up(void)
{
	int on = 1;
	fd = socket(AF_INET, SOCK_STREAM, 262);
	if (fd < 0) {
		fd = MUST(socket(AF_INET, SOCK_DGRAM, 0));
		MUST(setsockopt(fd, IPPROTO_UDP, UDP_CORK, &on, sizeof on));
	}
}

static void netlink_up(void)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg link;
	} ask = {{.nlmsg_len = sizeof ask, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST}, {.ifi_index = 1}};
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	fd = MUST(socket(AF_NETLINK, SOCK_RAW, 0));
	MUST(sendto(fd, &ask, sizeof ask, 0, (struct sockaddr *)&kernel, sizeof kernel));
}
/* Where the kernel has no such sockets, one of another family that is not kept. */
static void vsock_up(void)
{
	fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	if (fd < 0)
		fd = MUST(socket(AF_ALG, SOCK_SEQPACKET, 0));
}
/* A ring of packets that is mapped. */
static void ring_up(void)
{
	struct tpacket_req ring = {.tp_block_size = 4096, .tp_block_nr = 1, .tp_frame_size = 1024, .tp_frame_nr = 4};
	fd = MUST(socket(AF_PACKET, SOCK_RAW, 0));
	MUST(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring));
	void *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(at != MAP_FAILED, "set-up: no ring");
}
static void netlink_check(void)
{
	struct sockaddr name;
	socklen_t length = sizeof name;
	CHECK(!getsockname(fd, &name, &length), "it is gone");
}

/* A connection to a process that is no longer of the tree, and says what it hears. */
static void leaving_up(void)
{
	int ends[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	fd = ends[0];
	pid_t between = MUST(fork());
	if (!between) {
		if (!MUST(fork())) {
			char byte;
			close(ends[0]);
			while (read(ends[1], &byte, 1) == 1)
				if (write(ends[1], &byte, 1) != 1)
					break;
		}
		_exit(0);
	}
	MUST(close(ends[1]));
	MUST(waitpid(between, NULL, 0));
}
static void leaving_check(void)
{
	char byte = 'a';
	CHECK(write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1 && byte == 'a', "the other end is gone");
}

/* Words on a connection that nobody has accepted. */
static int caller;
static void waiting_up(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	snprintf(name.sun_path, sizeof name.sun_path, "%s", victim_beside("waiting"));
	fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(bind(fd, (struct sockaddr *)&name, sizeof name));
	MUST(listen(fd, 3));
	caller = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(connect(caller, (struct sockaddr *)&name, sizeof name));
	MUST(write(caller, "words", 5));
}
static void waiting_check(void)
{
	char words[6] = {0};
	int accepted = MUST(accept(fd, NULL, NULL));
	CHECK(read(accepted, words, 5) == 5 && !strcmp(words, "words"), "[%s]", words);
}

static void fanotify_up(void)
{
	fd = MUST(fanotify_init(FAN_CLASS_CONTENT, O_RDONLY));
	MUST(fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN | FAN_EVENT_ON_CHILD, -1, victim_beside(".")));
	MUST(close(MUST(open(victim_beside("created"), O_WRONLY | O_CREAT, 0600))));
}
static void fanotify_check(void)
{
	CHECK(read(fd, text, sizeof text) > 0, "the event is gone: %s", strerror(errno));
}

static void deleted_up(void)
{
	fd = made("gone");
	MUST(link(victim_beside("gone"), victim_beside("kept")));
	MUST(unlink(victim_beside("gone")));
}
static void fd_check(void)
{
	CHECK(pread(fd, text, 10, 0) == 10 && !memcmp(text, "data", 4), "data in the file");
}

static void deleted_map_up(void)
{
	int file = made("gone");
	memory = mapped(MAP_SHARED, file);
	MUST(close(file));
	MUST(link(victim_beside("gone"), victim_beside("kept")));
	MUST(unlink(victim_beside("gone")));
}
static void memory_check(void)
{
	CHECK(!memcmp(memory, "data", 4), "data in the mapping");
}

static void pipe_up(void) {}
static void pipe_check(void)
{
	CHECK(read(0, text, 4) == 4 && !memcmp(text, "sent", 4), "data in the pipe");
}

static void lock_up(void)
{
	fd = made("locked");
	MUST(flock(fd, LOCK_EX));
}
static void lock_check(void)
{
	int other = MUST(open(victim_beside("locked"), O_RDWR));
	CHECK(flock(other, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK, "the lock is gone");
	fd_check();
}

static void lease_up(void)
{
	MUST(close(made("leased")));
	fd = MUST(open(victim_beside("leased"), O_RDONLY));
	MUST(fcntl(fd, F_SETLEASE, F_RDLCK));
}
static void lease_check(void)
{
	CHECK(fcntl(fd, F_GETLEASE) == F_RDLCK, "the lease is gone");
}

static void aio_up(void)
{
	MUST(syscall(SYS_io_setup, 8, &ring));
	((unsigned *)ring)[1] = 7;
}
static void aio_check(void)
{
	struct io_event event;
	CHECK(syscall(SYS_io_getevents, ring, 0, 1, &event, NULL) == 0, "the ring: %s", strerror(errno));
}

static void userfault_up(void)
{
	fd = MUST(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
	struct uffdio_api api = {.api = UFFD_API};
	MUST(ioctl(fd, UFFDIO_API, &api));
	memory = mapped(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	memcpy(memory, "data", 4);
	struct uffdio_register range = {
		.range = {(unsigned long)memory, 8192}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	MUST(ioctl(fd, UFFDIO_REGISTER, &range));
}

static void seccomp_up(void)
{
	struct sock_filter all[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {4, all};
	MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
}
static void seccomp_check(void)
{
	CHECK(prctl(PR_GET_SECCOMP) == SECCOMP_MODE_FILTER, "the filter is gone");
}

static void uring_up(void)
{
	struct io_uring_params parameters = {0};
	fd = MUST(syscall(SYS_io_uring_setup, 4, &parameters));
}
static void uring_check(void)
{
	CHECK(syscall(SYS_io_uring_enter, fd, 0, 0, 0, NULL, 0) == 0, "the ring: %s", strerror(errno));
}

static void perf_up(void)
{
	struct perf_event_attr wanted = {.type = PERF_TYPE_SOFTWARE, .size = sizeof wanted, .config = PERF_COUNT_SW_CPU_CLOCK};
	fd = MUST(syscall(SYS_perf_event_open, &wanted, 0, -1, -1, 0));
}
static void perf_check(void)
{
	CHECK(read(fd, text, 8) == 8, "the counter: %s", strerror(errno));
}

static void pidfd_up(void)
{
	fd = MUST(syscall(SYS_pidfd_open, getppid(), 0));
}
static void pidfd_check(void)
{
	CHECK(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) == 0, "the pidfd: %s", strerror(errno));
}

/* A pseudo-terminal of which both sides are open in a process that is nobody's child of the tree. */
static int pty_outside(int *slave)
{
	int master = MUST(posix_openpt(O_RDWR | O_NOCTTY));
	MUST(unlockpt(master));
	*slave = MUST(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY));
	pid_t between = MUST(fork());
	if (!between) {
		pid_t outside = fork();
		if (!outside) {
			setsid();
			for (;;)
				pause();
		}
		victim_say("child %d", outside);
		_exit(0);
	}
	MUST(waitpid(between, NULL, 0));
	return master;
}
static void pty_up(void)
{
	int slave;
	fd = pty_outside(&slave);
	close(slave);
}
static void slave_up(void)
{
	int slave, master = pty_outside(&slave);
	close(master);
	fd = MUST(fcntl(slave, F_DUPFD, 0));
	close(slave);
}
static void pty_check(void)
{
	unsigned number;
	CHECK(ioctl(fd, TIOCGDEV, &number) == 0, "the terminal: %s", strerror(errno));
	CHECK(write(fd, "x", 1) == 1, "the terminal: %s", strerror(errno));
}

static void namespace_up(void)
{
	MUST(unshare(CLONE_NEWUTS));
	MUST(sethostname("inside", 6));
}
static void namespace_check(void)
{
	gethostname(text, sizeof text);
	CHECK(!strcmp(text, "inside"), "the host is called %.20s", text);
}

static void children_time_up(void)
{
	MUST(unshare(CLONE_NEWTIME));
}
static void children_time_check(void)
{
	struct stat own, of_children;
	MUST(stat("/proc/self/ns/time", &own));
	MUST(stat("/proc/self/ns/time_for_children", &of_children));
	CHECK(own.st_ino != of_children.st_ino, "the time of children");
}

/* A child in another time, which ends with us. */
static void child_time_up(void)
{
	int back = MUST(open("/proc/self/ns/time", O_RDONLY));
	children_time_up();
	child = MUST(fork());
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	MUST(setns(back, CLONE_NEWTIME));
	MUST(close(back));
}
static void child_time_check(void)
{
	MUST(kill(child, 0));
}

static void foreign_up(void)
{
	int back = MUST(open("/proc/self/ns/uts", O_RDONLY));
	MUST(unshare(CLONE_NEWUTS));
	int other = MUST(open("/proc/self/ns/uts", O_RDONLY));
	MUST(setns(back, CLONE_NEWUTS));
	MUST(close(back));
	fd = other;
}
static void foreign_check(void)
{
	struct stat theirs, ours;
	MUST(fstat(fd, &theirs));
	MUST(stat("/proc/self/ns/uts", &ours));
	CHECK(theirs.st_ino != ours.st_ino, "the other namespace");
}

static void files_up(void) { thread_with(CLONE_FILES); }
static void network_up(void) { thread_with(CLONE_NEWNET); }
static void thread_check(void) { done = 1; }

static const struct {
	const char *name;
	void (*up)(void), (*check)(void);
} kinds[] = {
	{"socket", socket_up, socket_check},
	{"netlink", netlink_up, netlink_check},
	{"vsock", vsock_up, netlink_check},
	{"ring", ring_up, netlink_check},
	{"queued", queued_up, netlink_check},
	{"corked", corked_up, netlink_check},
	{"mptcp", mptcp_up, netlink_check},
	{"leaving", leaving_up, leaving_check},
	{"waiting", waiting_up, waiting_check},
	{"fanotify", fanotify_up, fanotify_check},
	{"deleted", deleted_up, fd_check},
	{"deleted-mapping", deleted_map_up, memory_check},
	{"pipe", pipe_up, pipe_check},
	{"lock", lock_up, lock_check},
	{"lease", lease_up, lease_check},
	{"aio", aio_up, aio_check},
	{"userfaultfd", userfault_up, memory_check},
	{"seccomp", seccomp_up, seccomp_check},
	{"io_uring", uring_up, uring_check},
	{"perf", perf_up, perf_check},
	{"pidfd", pidfd_up, pidfd_check},
	{"pty", pty_up, pty_check},
	{"slave", slave_up, pty_check},
	{"namespace", namespace_up, namespace_check},
	{"children-time", children_time_up, children_time_check},
	{"child-time", child_time_up, child_time_check},
	{"foreign", foreign_up, foreign_check},
	{"thread-files", files_up, thread_check},
	{"thread-network", network_up, thread_check},
};

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	for (size_t at = 0; at < sizeof kinds / sizeof kinds[0]; at++)
		if (argc > 2 && !strcmp(argv[2], kinds[at].name)) {
			kinds[at].up();
			victim_ready();
			victim_wait();
			kinds[at].check();
			return victim_pass();
		}
	FAIL("set-up: nothing is called %s", argc > 2 ? argv[2] : "");
}
