/* Interval timers, POSIX timers and timerfds: ids, remaining time, periods, and that they fire when they should. */
#include "victim.h"
#include <poll.h>
#include <sys/time.h>
#include <sys/timerfd.h>

#define SLACK 0.8

static volatile double alarm_at;
static volatile int alarms, ticks, bad_value;

static void on_alarm(int number)
{
	(void)number;
	alarms++;
	alarm_at = victim_now();
}

static void on_tick(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	ticks += 1 + info->si_overrun;
	bad_value |= info->si_code != SI_TIMER || info->si_value.sival_int != 0x1234567;
}

static double in_seconds(struct timespec time)
{
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void within(const char *what, double got, double wanted, double slack)
{
	CHECK(got > wanted - slack && got < wanted + slack, "%s: %.3f s, wanted %.3f", what, got, wanted);
}

static void near(const char *what, double got, double wanted)
{
	within(what, got, wanted, SLACK);
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	struct sigaction on_alrm = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	struct sigaction on_rt = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_RESTART};
	sigaction(SIGALRM, &on_alrm, NULL);
	sigaction(SIGRTMIN, &on_rt, NULL);

	timer_t spare, ticking, quiet, stopped;
	struct sigevent none = {.sigev_notify = SIGEV_NONE};
	struct sigevent tick = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 0x1234567};
	MUST(timer_create(CLOCK_MONOTONIC, &none, &spare));
	MUST(timer_create(CLOCK_MONOTONIC, &tick, &ticking));
	MUST(timer_create(CLOCK_BOOTTIME, &none, &quiet));
	MUST(timer_create(CLOCK_MONOTONIC, &none, &stopped));
	/* A hole in the ids. */
	MUST(timer_delete(spare));

	double began = victim_now();
	struct itimerval once = {.it_value.tv_sec = 4};
	struct itimerval used = {.it_value.tv_sec = 500, .it_interval.tv_sec = 7};
	MUST(setitimer(ITIMER_REAL, &once, NULL));
	MUST(setitimer(ITIMER_VIRTUAL, &used, NULL));
	MUST(setitimer(ITIMER_PROF, &used, NULL));
	struct itimerspec every = {.it_value = {.tv_nsec = 250000000}, .it_interval = {.tv_nsec = 250000000}};
	struct itimerspec hundred = {.it_value = {.tv_sec = 100}, .it_interval = {.tv_sec = 3, .tv_nsec = 5}};
	MUST(timer_settime(ticking, 0, &every, NULL));
	MUST(timer_settime(quiet, 0, &hundred, NULL));

	int fd_every = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	int fd_once = MUST(timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC));
	int fd_until = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
	int fd_idle = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
	struct itimerspec four = {.it_value = {.tv_sec = 4}};
	struct itimerspec until;
	memset(&until, 0, sizeof until);
	clock_gettime(CLOCK_MONOTONIC, &until.it_value);
	until.it_value.tv_sec += 100;
	struct itimerspec often = {.it_value = {.tv_nsec = 50000000}, .it_interval = {.tv_nsec = 50000000}};
	MUST(timerfd_settime(fd_every, 0, &often, NULL));
	MUST(timerfd_settime(fd_once, 0, &four, NULL));
	MUST(timerfd_settime(fd_until, TFD_TIMER_ABSTIME, &until, NULL));
	victim_ready();
	victim_wait();

	double elapsed = victim_now() - began;
	struct itimerval left;
	struct itimerspec spec;
	MUST(getitimer(ITIMER_VIRTUAL, &left));
	CHECK(left.it_interval.tv_sec == 7, "ITIMER_VIRTUAL: interval %ld", left.it_interval.tv_sec);
	near("ITIMER_VIRTUAL", left.it_value.tv_sec + left.it_value.tv_usec / 1e6, 500);
	MUST(getitimer(ITIMER_PROF, &left));
	near("ITIMER_PROF", left.it_value.tv_sec + left.it_value.tv_usec / 1e6, 500);
	MUST(timer_gettime(quiet, &spec));
	near("POSIX timer on CLOCK_BOOTTIME", in_seconds(spec.it_value), 100 - elapsed);
	CHECK(spec.it_interval.tv_sec == 3 && spec.it_interval.tv_nsec == 5, "interval of the POSIX timer");
	MUST(timer_gettime(stopped, &spec));
	CHECK(in_seconds(spec.it_value) == 0, "a disarmed POSIX timer runs");
	CHECK(timer_gettime(spare, &spec) == -1 && errno == EINVAL, "a deleted POSIX timer is back");
	MUST(timerfd_gettime(fd_until, &spec));
	near("timerfd set to a time", in_seconds(spec.it_value), 100 - elapsed);
	MUST(timerfd_gettime(fd_idle, &spec));
	CHECK(in_seconds(spec.it_value) == 0, "a disarmed timerfd runs");

	uint64_t fired = 0;
	CHECK(read(fd_every, &fired, sizeof fired) == sizeof fired, "periodic timerfd: %s", strerror(errno));
	/* Nobody reads it meanwhile: the ticks from before the dump count too. */
	within("ticks of the periodic timerfd", fired / 20.0, elapsed, 0.2);
	double wait = 4 - elapsed;
	while (alarms == 0 && victim_now() - began < 4 + SLACK)
		usleep(10000);
	CHECK(alarms == 1, "ITIMER_REAL fired %d times (%.3f s were left)", alarms, wait);
	near("ITIMER_REAL", alarm_at - began, 4);
	struct pollfd polled = {.fd = fd_once, .events = POLLIN};
	while (poll(&polled, 1, 2000) == -1 && errno == EINTR)
		;
	CHECK(read(fd_once, &fired, sizeof fired) == sizeof fired && fired == 1, "timerfd fired %lu times", fired);
	CHECK(fcntl(fd_once, F_GETFD) == FD_CLOEXEC, "close-on-exec of the timerfd");
	elapsed = victim_now() - began;
	near("timerfd", elapsed > 4 ? 4 : elapsed, 4);
	near("ticks of the periodic POSIX timer", ticks / 4.0, elapsed);
	CHECK(!bad_value, "siginfo of the POSIX timer");
	return victim_pass();
}
