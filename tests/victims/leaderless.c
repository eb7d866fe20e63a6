/* One session whose leader has gone, with members at two parents that are both not of it. */
#include "victim.h"
#include <sys/prctl.h>
#include <sys/wait.h>

static int alive[2];

/* Waits until the victim has ended, however: it alone has the other end. */
static void stay(void)
{
	char byte;
	close(alive[1]);
	_exit(read(alive[0], &byte, 1) != 0);
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	int ready[2];
	MUST(pipe(alive));
	char byte;
	MUST(pipe(ready));
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	pid_t leader = MUST(fork());
	if (!leader) {
		setsid();
		if (!fork())
			stay();
		if (!fork()) {
			if (!fork())
				stay();
			setsid();
			if (write(ready[1], "r", 1) != 1)
				_exit(1);
			stay();
		}
		_exit(0);
	}
	MUST(waitpid(leader, NULL, 0));
	MUST(read(ready[0], &byte, 1));
	victim_ready();
	victim_wait();
	return victim_pass();
}
