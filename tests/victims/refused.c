/* Holds one thing that a dump refuses, named by the second argument, and checks that it still works. */
#include "victim.h"
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	int pair[2] = {-1, -1}, watcher = -1, file = -1;
	pid_t child = 0;
	char text[600];
	victim_start(argc, argv);
	const char *kind = argc > 2 ? argv[2] : "";
	if (!strcmp(kind, "socket")) {
		MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
		MUST(write(pair[0], "data", 4));
	} else if (!strcmp(kind, "inotify")) {
		watcher = MUST(inotify_init1(IN_NONBLOCK));
		MUST(inotify_add_watch(watcher, victim_beside("."), IN_CREATE));
	} else if (!strcmp(kind, "child")) {
		child = MUST(fork());
		if (!child) {
			pause();
			_exit(0);
		}
		victim_say("child %d", child);
	} else if (!strcmp(kind, "deleted")) {
		file = MUST(open(victim_beside("gone"), O_RDWR | O_CREAT, 0600));
		MUST(write(file, "data", 4));
		MUST(unlink(victim_beside("gone")));
	} else if (strcmp(kind, "pipe")) {
		FAIL("set-up: nothing is called %s", kind);
	}
	victim_ready();
	victim_wait();
	if (pair[1] >= 0)
		CHECK(read(pair[1], text, 10) == 4 && !memcmp(text, "data", 4), "data in the socket");
	if (watcher >= 0) {
		MUST(close(MUST(open(victim_beside("created"), O_WRONLY | O_CREAT, 0600))));
		CHECK(read(watcher, text, sizeof text) > 0, "the watcher saw nothing: %s", strerror(errno));
	}
	if (child) {
		int status;
		CHECK(kill(child, SIGKILL) == 0, "the child: %s", strerror(errno));
		CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status), "the child's status");
	}
	if (file >= 0)
		CHECK(pread(file, text, 10, 0) == 4 && !memcmp(text, "data", 4), "data in the deleted file");
	if (!strcmp(kind, "pipe"))
		CHECK(read(0, text, 4) == 4 && !memcmp(text, "sent", 4), "data in the pipe");
	return victim_pass();
}
