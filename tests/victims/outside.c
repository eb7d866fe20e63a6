/*
 * Its standard input is somebody else's: a file, a socket, a terminal or a named pipe, open for reading and writing. When it is
 * asked it tells what it reads there, and answers. With "controlling" it is its terminal, with "console" it opens that too.
 */
#include "victim.h"
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	char text[40] = {0};
	victim_start(argc, argv);
	const char *kind = argc > 2 ? argv[2] : "";
	int is_controlling = !strcmp(kind, "controlling");
	if (is_controlling)
		MUST(ioctl(0, TIOCSCTTY, 0));
	victim_ready();
	victim_wait();
	if (is_controlling) {
		pid_t session = 0;
		CHECK(!ioctl(0, TIOCGSID, &session) && session == getpid(), "it is the terminal of session %d", session);
		int own = open("/dev/tty", O_RDWR | O_NOCTTY);
		CHECK(own >= 0, "it has no terminal: %s", strerror(errno));
		CHECK(tcgetpgrp(own) == getpgrp(), "group %d is in the foreground", tcgetpgrp(own));
	}
	ssize_t length = read(0, text, sizeof text - 1);
	CHECK(length > 0, "it reads %zd: %s", length, strerror(errno));
	text[strcspn(text, "\n")] = 0;
	victim_say("it reads %s", text);
	MUST(write(0, "answer\n", 7));
	return victim_pass();
}
