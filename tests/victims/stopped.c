/*
 * Children that stand still, each by another signal, which their parent is told after a restore too; one of them has threads,
 * and for one a signal waits that will end it, but not before it goes on.
 */
#include "victim.h"
#include <sys/wait.h>

enum { BY_STOP, BY_TERMINAL, WITH_THREADS, ABOUT_TO_END, COUNT };

static const int signals[COUNT] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
static pid_t children[COUNT];

static void *sleep_on(void *none)
{
	for (;;)
		pause();
	return none;
}

static void child(int who)
{
	setpgid(0, 0);
	pthread_t thread;
	for (int number = 0; who == WITH_THREADS && number < 3; number++)
		pthread_create(&thread, NULL, sleep_on, NULL);
	raise(signals[who]);
	_exit(who);
}

static int stopped_by(pid_t pid)
{
	siginfo_t info = {0};
	int got = waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT | WNOHANG);
	return got == 0 && info.si_pid == pid && info.si_code == CLD_STOPPED ? info.si_status : 0;
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	for (int who = 0; who < COUNT; who++) {
		children[who] = MUST(fork());
		if (!children[who])
			child(who);
	}
	for (int who = 0; who < COUNT; who++) {
		siginfo_t info;
		MUST(waitid(P_PID, children[who], &info, WSTOPPED | WNOWAIT));
	}
	MUST(kill(children[ABOUT_TO_END], SIGTERM));
	victim_ready();
	victim_wait();

	for (int who = 0; who < COUNT; who++) {
		int by = stopped_by(children[who]);
		CHECK(by == signals[who], "child %d: told of another signal: %d, not %d", who, by, signals[who]);
	}
	for (int who = 0; who < COUNT; who++) {
		int status;
		MUST(kill(children[who], SIGCONT));
		CHECK(waitpid(children[who], &status, 0) == children[who], "child %d is not ours", who);
		if (who == ABOUT_TO_END)
			CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "child %d: status %x", who, status);
		else
			CHECK(WIFEXITED(status) && WEXITSTATUS(status) == who, "child %d: status %x", who, status);
	}
	return victim_pass();
}
