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
#include <mqueue.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/shm.h>
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
	if (thread_unshares == CLONE_FS)
		MUST(chdir("/"));
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
}
static void socket_check(void)
{
	int on = 0;
	socklen_t length = sizeof on;
	CHECK(!getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &length) && on, "it does not listen");
}

static void inotify_up(void)
{
	fd = MUST(inotify_init1(IN_NONBLOCK));
	MUST(inotify_add_watch(fd, victim_beside("."), IN_CREATE));
}
static void inotify_check(void)
{
	MUST(close(MUST(open(victim_beside("created"), O_WRONLY | O_CREAT, 0600))));
	CHECK(read(fd, text, sizeof text) > 0, "the watcher saw nothing: %s", strerror(errno));
}

static void child_up(void)
{
	child = MUST(syscall(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0));
	if (!child) {
		pause();
		_exit(0);
	}
	victim_say("child %d", child);
}
static void child_check(void)
{
	int status;
	CHECK(kill(child, SIGKILL) == 0, "the child: %s", strerror(errno));
	CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status), "the child's status");
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

static void shm_up(void)
{
	int id = MUST(shmget(IPC_PRIVATE, 8192, IPC_CREAT | 0600));
	memory = shmat(id, NULL, 0);
	MUST(shmctl(id, IPC_RMID, NULL));
	MUST(memory == (void *)-1 ? -1 : 0);
	memcpy(memory, "data", 4);
}

static void aio_up(void)
{
	MUST(syscall(SYS_io_setup, 8, &ring));
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
	struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog program = {1, all};
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
	fd = MUST(syscall(SYS_pidfd_open, getpid(), 0));
}
static void pidfd_check(void)
{
	CHECK(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) == 0, "the pidfd: %s", strerror(errno));
}

static void queue_up(void)
{
	snprintf(text, sizeof text, "/victim-%d", getpid());
	fd = MUST(mq_open(text, O_RDWR | O_CREAT, 0600, NULL));
	MUST(mq_unlink(text));
	MUST(mq_send(fd, "data", 4, 0));
}
static void queue_check(void)
{
	static char message[16384];
	CHECK(mq_receive(fd, message, sizeof message, NULL) == 4, "the queue: %s", strerror(errno));
}

static void pty_up(void)
{
	fd = MUST(posix_openpt(O_RDWR | O_NOCTTY));
	MUST(unlockpt(fd));
}
static void pty_check(void)
{
	int number;
	CHECK(ioctl(fd, TIOCGPTN, &number) == 0, "the terminal: %s", strerror(errno));
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

static void files_up(void) { thread_with(CLONE_FILES); }
static void fs_up(void) { thread_with(CLONE_FS); }
static void network_up(void) { thread_with(CLONE_NEWNET); }
static void thread_check(void) { done = 1; }

static const struct {
	const char *name;
	void (*up)(void), (*check)(void);
} kinds[] = {
	{"socket", socket_up, socket_check},
	{"inotify", inotify_up, inotify_check},
	{"child", child_up, child_check},
	{"deleted", deleted_up, fd_check},
	{"deleted-mapping", deleted_map_up, memory_check},
	{"pipe", pipe_up, pipe_check},
	{"lock", lock_up, lock_check},
	{"lease", lease_up, lease_check},
	{"shared-memory", shm_up, memory_check},
	{"aio", aio_up, aio_check},
	{"userfaultfd", userfault_up, memory_check},
	{"seccomp", seccomp_up, seccomp_check},
	{"io_uring", uring_up, uring_check},
	{"perf", perf_up, perf_check},
	{"pidfd", pidfd_up, pidfd_check},
	{"queue", queue_up, queue_check},
	{"pty", pty_up, pty_check},
	{"namespace", namespace_up, namespace_check},
	{"thread-files", files_up, thread_check},
	{"thread-fs", fs_up, thread_check},
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
