/* Handlers, masks, alternate stacks and pending signals with their values, for the process and for each of two threads. */
#include "victim.h"

struct seen {
	int number, code, value;
};
static struct seen seen[32];
static volatile int count;
static volatile int on_altstack = -1;
static char stacks[2][65536] __attribute__((aligned(16)));
static pthread_barrier_t barrier;
static struct sigaction before[65];

static void on_value(int number, siginfo_t *info, void *context)
{
	(void)context;
	char here;
	on_altstack = &here >= stacks[0] && &here < stacks[0] + sizeof stacks[0];
	if (count < 32)
		seen[count++] = (struct seen){number, info->si_code, info->si_value.sival_int};
}

static void queue_to_thread(int number, int value)
{
	siginfo_t info = {.si_signo = number, .si_code = SI_QUEUE};
	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_int = value;
	MUST(syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), number, &info));
}

static void use_stack(int which)
{
	stack_t stack = {.ss_sp = stacks[which], .ss_size = sizeof stacks[0] - 4096 * which};
	MUST(sigaltstack(&stack, NULL));
}

static void check_stack(int which)
{
	stack_t stack;
	MUST(sigaltstack(NULL, &stack));
	CHECK(stack.ss_sp == stacks[which] && stack.ss_size == sizeof stacks[0] - 4096 * which && stack.ss_flags == 0,
	      "alternate stack of thread %d", which);
}

static void *second(void *unused)
{
	(void)unused;
	sigset_t mask, now;
	sigemptyset(&mask);
	for (int number = SIGRTMIN; number <= SIGRTMIN + 5; number++)
		sigaddset(&mask, number);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGUSR2);
	sigaddset(&mask, SIGIO);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	use_stack(1);
	queue_to_thread(SIGRTMIN + 5, 500);
	queue_to_thread(SIGRTMIN + 5, 501);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	for (int number = 1; number < 65; number++)
		CHECK(sigismember(&mask, number) == sigismember(&now, number), "mask of the second thread: signal %d", number);
	check_stack(1);
	sigset_t wanted;
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGRTMIN + 5);
	for (int value = 500; value <= 501; value++) {
		struct timespec none = {0};
		siginfo_t info;
		CHECK(sigtimedwait(&wanted, &info, &none) == SIGRTMIN + 5, "the second thread's signal %d is gone", value);
		CHECK(info.si_value.sival_int == value && info.si_code == SI_QUEUE, "value %d of the second thread's signal",
		      info.si_value.sival_int);
	}
	return NULL;
}

static void check_actions(void)
{
	for (int number = 1; number < 65; number++) {
		struct sigaction now;
		if (sigaction(number, NULL, &now))
			continue;
		CHECK(now.sa_flags == before[number].sa_flags, "flags of signal %d: %x, were %x", number, now.sa_flags,
		      before[number].sa_flags);
		CHECK(now.sa_sigaction == before[number].sa_sigaction, "handler of signal %d", number);
		for (int other = 1; other < 65; other++)
			CHECK(sigismember(&now.sa_mask, other) == sigismember(&before[number].sa_mask, other),
			      "mask of the handler of signal %d", number);
	}
}

static void set_up(sigset_t *blocked)
{
	struct sigaction handler = {.sa_sigaction = on_value, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
	sigaddset(&handler.sa_mask, SIGCHLD);
	sigaddset(&handler.sa_mask, SIGRTMAX);
	for (int number = SIGRTMIN; number <= SIGRTMIN + 5; number++)
		sigaction(number, &handler, NULL);
	handler.sa_flags |= SA_NODEFER;
	sigaction(SIGUSR2, &handler, NULL);
	signal(SIGHUP, SIG_IGN);
	signal(SIGTSTP, SIG_IGN);
	sigemptyset(blocked);
	sigaddset(blocked, SIGUSR1);
	sigaddset(blocked, SIGUSR2);
	sigaddset(blocked, SIGWINCH);
	for (int number = SIGRTMIN; number <= SIGRTMIN + 5; number++)
		sigaddset(blocked, number);
	sigprocmask(SIG_SETMASK, blocked, NULL);
	for (int number = 1; number < 65; number++)
		sigaction(number, NULL, &before[number]);
	use_stack(0);
}

int main(int argc, char **argv)
{
	static const struct seen wanted[] = {
		{0, SI_QUEUE, 100}, {0, SI_QUEUE, 101}, {0, SI_QUEUE, 102}, {1, SI_QUEUE, 200}, {2, SI_QUEUE, 300},
	};
	sigset_t blocked, now, pending;
	pthread_t other;
	victim_start(argc, argv);
	set_up(&blocked);
	pthread_barrier_init(&barrier, NULL, 2);
	CHECK(!pthread_create(&other, NULL, second, NULL), "set-up: pthread_create");
	pthread_barrier_wait(&barrier);
	for (int value = 0; value < 3; value++)
		MUST(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 100 + value}));
	MUST(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 200}));
	queue_to_thread(SIGRTMIN + 2, 300);
	MUST(kill(getpid(), SIGUSR2));
	victim_ready();
	victim_wait();

	CHECK(count == 0, "a blocked signal was delivered: %d", seen[0].number);
	sigprocmask(SIG_SETMASK, NULL, &now);
	for (int number = 1; number < 65; number++)
		CHECK(sigismember(&blocked, number) == sigismember(&now, number), "mask: signal %d", number);
	check_actions();
	check_stack(0);
	sigpending(&pending);
	for (int number = 1; number < 65; number++) {
		int wait = number == SIGUSR2 || (number >= SIGRTMIN && number <= SIGRTMIN + 2);
		CHECK(sigismember(&pending, number) == wait, "pending: signal %d", number);
	}
	pthread_barrier_wait(&barrier);
	pthread_join(other, NULL);
	/* One after the other, so that the order is the queues' own. */
	for (int number = SIGRTMIN; number <= SIGRTMIN + 2; number++) {
		sigset_t one;
		sigemptyset(&one);
		sigaddset(&one, number);
		sigprocmask(SIG_UNBLOCK, &one, NULL);
	}
	CHECK(count == 5, "%d signals were pending, wanted 5", count);
	for (int at = 0; at < 5; at++)
		CHECK(seen[at].number == SIGRTMIN + wanted[at].number && seen[at].code == wanted[at].code &&
			      seen[at].value == wanted[at].value,
		      "signal %d: number %d, code %d, value %d", at, seen[at].number, seen[at].code, seen[at].value);
	CHECK(on_altstack == 1, "the handler did not run on the alternate stack");
	sigemptyset(&now);
	sigaddset(&now, SIGUSR2);
	sigprocmask(SIG_UNBLOCK, &now, NULL);
	CHECK(count == 6 && seen[5].number == SIGUSR2 && seen[5].code == SI_USER, "SIGUSR2: code %d", seen[5].code);
	return victim_pass();
}
