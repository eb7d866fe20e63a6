/* Pipes to itself with data in them, eventfd, epoll over them, signalfd, memfd with seals. */
#include "victim.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#define FILLED 50000

int main(int argc, char **argv)
{
	static unsigned char sent[FILLED], got[FILLED + 1];
	victim_start(argc, argv);
	int full[2], empty[2];
	MUST(pipe(full));
	MUST(pipe2(empty, O_NONBLOCK | O_CLOEXEC));
	MUST(fcntl(full[1], F_SETPIPE_SZ, 262144));
	for (int at = 0; at < FILLED; at++)
		sent[at] = at * 7 + at / 251;
	MUST(write(full[1], sent, FILLED));
	int spare_reader = MUST(dup(full[0]));

	int counter = MUST(eventfd(7, EFD_CLOEXEC));
	int poller = MUST(epoll_create1(EPOLL_CLOEXEC));
	struct epoll_event on_full = {.events = EPOLLIN, .data.u64 = 0x1122334455667788};
	struct epoll_event on_empty = {.events = EPOLLIN | EPOLLET, .data.u64 = 2};
	struct epoll_event on_counter = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 3};
	MUST(epoll_ctl(poller, EPOLL_CTL_ADD, full[0], &on_full));
	MUST(epoll_ctl(poller, EPOLL_CTL_ADD, empty[0], &on_empty));
	MUST(epoll_ctl(poller, EPOLL_CTL_ADD, counter, &on_counter));

	sigset_t taken;
	sigemptyset(&taken);
	sigaddset(&taken, SIGUSR2);
	sigaddset(&taken, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &taken, NULL);
	int signals = MUST(signalfd(-1, &taken, SFD_NONBLOCK));
	MUST(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 77}));

	int memory = MUST(memfd_create("victim-memory", MFD_ALLOW_SEALING | MFD_CLOEXEC));
	MUST(write(memory, sent, 10000));
	MUST(lseek(memory, 123, SEEK_SET));
	MUST(fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	victim_ready();
	victim_wait();

	struct epoll_event events[8];
	int ready = epoll_wait(poller, events, 8, 0), saw_full = 0, saw_counter = 0;
	CHECK(ready == 2, "epoll has %d events, wanted 2", ready);
	for (int at = 0; at < ready; at++) {
		saw_full |= events[at].data.u64 == on_full.data.u64 && events[at].events == EPOLLIN;
		saw_counter |= events[at].data.u64 == 3;
	}
	CHECK(saw_full && saw_counter, "the wrong epoll events");
	CHECK(epoll_wait(poller, events, 8, 0) == 1, "EPOLLONESHOT told twice");
	MUST(write(empty[1], "z", 1));
	CHECK(epoll_wait(poller, events, 8, 0) == 2, "epoll does not see a write");
	CHECK(epoll_wait(poller, events, 8, 0) == 1, "EPOLLET told twice");

	CHECK(fcntl(full[1], F_GETPIPE_SZ) == 262144, "pipe size %d", fcntl(full[1], F_GETPIPE_SZ));
	CHECK(read(spare_reader, got, 10) == 10 && !memcmp(got, sent, 10), "start of the pipe");
	int length = 10;
	struct pollfd polled = {.fd = full[0], .events = POLLIN};
	while (poll(&polled, 1, 0) == 1) {
		ssize_t part = read(full[0], got + length, FILLED + 1 - length);
		CHECK(part > 0, "read of the pipe: %s", strerror(errno));
		length += part;
	}
	CHECK(length == FILLED && !memcmp(got, sent, FILLED), "pipe: %d bytes, wanted %d", length, FILLED);
	CHECK(fcntl(empty[0], F_GETFL) == (O_RDONLY | O_NONBLOCK), "flags of the pipe: %o", fcntl(empty[0], F_GETFL));
	CHECK(fcntl(empty[0], F_GETFD) == FD_CLOEXEC, "close-on-exec of the pipe");
	CHECK(read(empty[0], got, 5) == 1 && got[0] == 'z', "the empty pipe had data");

	uint64_t value = 0;
	CHECK(read(counter, &value, 8) == 8 && value == 7, "eventfd: %lu, wanted 7", value);

	struct signalfd_siginfo info;
	CHECK(read(signals, &info, sizeof info) == sizeof info, "signalfd: %s", strerror(errno));
	CHECK((int)info.ssi_signo == SIGRTMIN + 1 && info.ssi_int == 77, "signalfd: signal %u, value %d", info.ssi_signo,
	      info.ssi_int);
	MUST(kill(getpid(), SIGUSR2));
	CHECK(read(signals, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR2, "signalfd does not take SIGUSR2");

	CHECK(fcntl(memory, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW), "seals %x", fcntl(memory, F_GET_SEALS));
	CHECK(lseek(memory, 0, SEEK_CUR) == 123, "offset of the memfd");
	CHECK(pread(memory, got, FILLED, 0) == 10000 && !memcmp(got, sent, 10000), "content of the memfd");
	CHECK(ftruncate(memory, 5000) == -1 && errno == EPERM, "the memfd shrinks");
	char link[100] = {0}, name[40];
	snprintf(name, sizeof name, "/proc/self/fd/%d", memory);
	CHECK(readlink(name, link, 99) > 0 && !strncmp(link, "/memfd:victim-memory", 20), "name of the memfd: %s", link);
	return victim_pass();
}
