/* Waits once, in the call that its second argument names, for what only a signal ends; the signal may come at any time. */
#include "victim.h"
#include <poll.h>
#include <sys/epoll.h>

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	const char *call = argc > 2 ? argv[2] : "pause";
	const struct timespec hour = {.tv_sec = 3600};
	struct pollfd none = {.fd = -1};
	struct epoll_event event;
	int epoll = MUST(epoll_create1(0));
	sigset_t asks;
	sigemptyset(&asks);
	sigaddset(&asks, SIGUSR1);
	sigprocmask(SIG_UNBLOCK, &asks, NULL);
	double began = victim_now();
	victim_ready();
	int result;
	if (!strcmp(call, "nanosleep"))
		result = nanosleep(&hour, NULL);
	else if (!strcmp(call, "poll"))
		result = poll(&none, 1, 3600 * 1000);
	else if (!strcmp(call, "epoll_pwait2"))
		result = epoll_pwait2(epoll, &event, 1, &hour, NULL);
	else
		result = pause();
	CHECK(result == -1 && errno == EINTR, "%s: %d, %s", call, result, strerror(errno));
	CHECK(victim_asked, "%s ended by itself", call);
	CHECK(victim_now() - began < 3000, "%s took its hour", call);
	return victim_pass();
}
