/* epoll in epoll, whichever was made first; watches whose descriptor was closed since, or is another file's, while a duplicate
 * keeps what they watch open. */
#include "victim.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static void watch(int epoll, int fd, unsigned events, unsigned long data)
{
	struct epoll_event event = {.events = events, .data.u64 = data};
	MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

/* Returns the sum of the data of all that is ready. */
static unsigned long ready(int epoll)
{
	struct epoll_event events[8];
	unsigned long sum = 0;
	int count = MUST(epoll_wait(epoll, events, 8, 0));
	for (int at = 0; at < count; at++)
		sum += events[at].data.u64;
	return sum;
}

int main(int argc, char **argv)
{
	unsigned long one = 1;
	victim_start(argc, argv);
	int first = MUST(epoll_create1(0));
	int second = MUST(epoll_create1(EPOLL_CLOEXEC));
	int third = MUST(epoll_create1(0));
	int event = MUST(eventfd(0, EFD_NONBLOCK));
	int closed = MUST(eventfd(0, EFD_NONBLOCK));
	int reused = MUST(eventfd(0, EFD_NONBLOCK));
	/* The first watches the second, which watches the third, which watches the events. */
	watch(first, second, EPOLLIN, 1);
	watch(second, third, EPOLLIN, 10);
	watch(third, event, EPOLLIN | EPOLLET, 100);
	watch(third, closed, EPOLLIN, 1000);
	watch(third, reused, EPOLLIN, 10000);
	int kept_closed = MUST(fcntl(closed, F_DUPFD, 60));
	int kept_reused = MUST(fcntl(reused, F_DUPFD, 60));
	MUST(close(closed));
	MUST(close(reused));
	CHECK(MUST(open("/dev/null", O_RDONLY)) == closed, "set-up: a number");
	MUST(dup2(closed, reused));
	MUST(close(closed));
	victim_ready();
	victim_wait();

	CHECK(ready(first) == 0, "something is ready that should not be");
	CHECK(write(kept_closed, &one, 8) == 8 && ready(third) == 1000, "the closed one");
	CHECK(ready(first) == 1 && ready(second) == 10, "it does not come through");
	CHECK(read(kept_closed, &one, 8) == 8 && ready(first) == 0, "it does not go");
	CHECK(write(kept_reused, &one, 8) == 8 && ready(first) == 1 && ready(third) == 10000, "the reused one");
	CHECK(read(kept_reused, &one, 8) == 8, "read");
	CHECK(write(event, &one, 8) == 8 && ready(third) == 100 && ready(third) == 0, "the edge");
	CHECK(fcntl(closed, F_GETFD) == -1 && fcntl(reused, F_GETFD) == 0, "descriptors");
	return victim_pass();
}
