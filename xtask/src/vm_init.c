/* The first program of the guest of `cargo xtask vm`: loads modules, makes the host's files its root (what is written stays in
 * memory), runs the command, tells its status on the console, and turns the machine off. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void must(int result, const char *what)
{
	if (result < 0) {
		printf("guest: %s: %s\n", what, strerror(errno));
		off();
	}
}

static void load_modules(void)
{
	char line[256];
	FILE *order = fopen("/modules/order", "r");
	while (order && fgets(line, sizeof line, order)) {
		line[strcspn(line, "\n")] = 0;
		int file = open(line, O_RDONLY | O_CLOEXEC);
		if (syscall(SYS_finit_module, file, "", 0) && errno != EEXIST)
			printf("guest: %s: %s\n", line, strerror(errno));
		close(file);
	}
}

static void mount_at(const char *what, const char *where, const char *kind, const char *how)
{
	mkdir(where, 0755);
	if (mount(what, where, kind, 0, how))
		printf("guest: mount %s: %s\n", where, strerror(errno));
}

static void make_root(void)
{
	mkdir("/lower", 0755);
	mkdir("/memory", 0755);
	mkdir("/new", 0755);
	must(mount("root", "/lower", "9p", MS_RDONLY, "trans=virtio,version=9p2000.L,msize=524288,cache=loose"), "9p");
	must(mount("memory", "/memory", "tmpfs", 0, "size=80%"), "tmpfs");
	mkdir("/memory/upper", 0755);
	mkdir("/memory/work", 0755);
	must(mount("root", "/new", "overlay", 0, "lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work"), "overlay");
	mount_at("proc", "/new/proc", "proc", NULL);
	mount_at("sysfs", "/new/sys", "sysfs", NULL);
	mount_at("devtmpfs", "/new/dev", "devtmpfs", NULL);
	mount_at("devpts", "/new/dev/pts", "devpts", NULL);
	mount_at("shm", "/new/dev/shm", "tmpfs", NULL);
	mount_at("run", "/new/run", "tmpfs", NULL);
	mount_at("cgroup", "/new/sys/fs/cgroup", "cgroup2", NULL);
	must(chdir("/new"), "chdir");
	must(mount(".", "/", NULL, MS_MOVE, NULL), "move of the root");
	must(chroot("."), "chroot");
	must(chdir("/"), "chdir");
}

static void raise_loopback(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ioctl(socket_, SIOCSIFFLAGS, &request);
	close(socket_);
}

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	load_modules();
	char command[65536] = "";
	int file = open("/command", O_RDONLY);
	must(read(file, command, sizeof command - 1), "the command");
	close(file);
	make_root();
	raise_loopback();
	pid_t child = fork();
	if (!child) {
		setsid();
		setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
		setenv("HOME", "/root", 1);
		execl("/bin/bash", "bash", "-c", command, NULL);
		_exit(127);
	}
	int status = -1;
	/* Orphans are ours. */
	for (pid_t ended; (ended = wait(&status)) != child;)
		if (ended < 0 && errno == ECHILD)
			break;
	usleep(200000);
	printf("\nguest: status %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	off();
}
