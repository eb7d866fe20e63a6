/* A parent that waits for its child by vfork, in the child's place: the child is the one that takes its time. */
#include "victim.h"

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	sigset_t asks;
	sigemptyset(&asks);
	sigaddset(&asks, SIGUSR1);
	pid_t parent = getpid();
	pid_t child = vfork();
	if (child == 0) {
		victim_ready();
		/* The parent is asked, and cannot answer: what waits for it tells that it was. */
		for (;;) {
			char line[200];
			unsigned long long waiting = 0;
			char path[64];
			snprintf(path, sizeof path, "/proc/%d/status", parent);
			FILE *status = fopen(path, "r");
			while (status && fgets(line, sizeof line, status))
				sscanf(line, "ShdPnd: %llx", &waiting);
			if (status)
				fclose(status);
			if (waiting >> (SIGUSR1 - 1) & 1)
				_exit(7);
			usleep(10000);
		}
	}
	CHECK(child > 0, "vfork: %s", strerror(errno));
	return victim_pass();
}
