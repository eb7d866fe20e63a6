/* Connections of TCP, both ends in one process: what waits in them, what was not sent yet, and halves that are closed in every state
 * that loopback leaves a connection in. */
#include "victim.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

enum { FULL = 300000 };

static char text[FULL];

/* Both ends of a connection: [0] has connected, [1] has accepted. */
static void connected(int ends[2], int family)
{
	/* An address of its own, so that nobody else has such a connection when it comes back. */
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f4d0000 | (getpid() & 0xffff))};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr *name = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	socklen_t length = family == AF_INET ? sizeof v4 : sizeof v6;
	int listener = MUST(socket(family, SOCK_STREAM, 0));
	MUST(bind(listener, name, length));
	MUST(listen(listener, 1));
	MUST(getsockname(listener, name, &length));
	ends[0] = MUST(socket(family, SOCK_STREAM, 0));
	if (family == AF_INET) {
		struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = v4.sin_addr};
		MUST(bind(ends[0], (struct sockaddr *)&own, sizeof own));
	}
	MUST(connect(ends[0], name, length));
	ends[1] = MUST(accept(listener, NULL, NULL));
	MUST(close(listener));
}

/* A connection that was asked for: the other end [1] listens, and its filter drops what comes. */
static void asked_for(int ends[2])
{
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f4d0000 | (getpid() & 0xffff))};
	socklen_t length = sizeof name;
	struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog filter = {1, &nothing};
	ends[1] = MUST(socket(AF_INET, SOCK_STREAM, 0));
	MUST(bind(ends[1], (struct sockaddr *)&name, length));
	MUST(listen(ends[1], 1));
	MUST(setsockopt(ends[1], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter));
	MUST(getsockname(ends[1], (struct sockaddr *)&name, &length));
	ends[0] = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	CHECK(connect(ends[0], (struct sockaddr *)&name, length) == -1 && errno == EINPROGRESS, "set-up: connect: %d", errno);
}

static int state_of(int fd)
{
	struct tcp_info info = {0};
	socklen_t length = sizeof info;
	MUST(getsockopt(fd, SOL_TCP, TCP_INFO, &info, &length));
	return info.tcpi_state;
}

/* Writes until nothing more fits, and returns how much did. */
static int fill(int fd)
{
	int all = 0, size = 300000;
	MUST(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
	for (ssize_t part; (part = send(fd, text + all % 1000, 997, MSG_DONTWAIT)) > 0;)
		all += part;
	return all;
}

/* Reads so much of what fill wrote, and whether the end follows. */
static void expect_full(int fd, int length, int is_end)
{
	static char got[1000];
	int at = 0;
	while (at < length) {
		/* Where a packet ends is nobody's business, where one of fill's ends is. */
		int in = at % 997, left = 997 - in;
		ssize_t part = recv(fd, got, left, 0);
		CHECK(part > 0, "%d bytes of %d, then %zd, errno %d", at, length, part, part < 0 ? errno : 0);
		CHECK(!memcmp(got, text + (at - in) % 1000 + in, part), "bytes at %d of descriptor %d", at, fd);
		at += part;
	}
	if (is_end)
		CHECK(recv(fd, got, 1, 0) == 0, "the end is not told of descriptor %d", fd);
	else
		CHECK(recv(fd, got, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN, "descriptor %d holds more", fd);
}

static void expect(int fd, const char *words)
{
	char got[32] = {0};
	ssize_t length = recv(fd, got, sizeof got - 1, 0);
	CHECK(length == (ssize_t)strlen(words) && !strcmp(got, words), "descriptor %d: %zd [%s], wanted [%s]", fd, length, got, words);
}

static void expect_end(int fd)
{
	char byte;
	CHECK(recv(fd, &byte, 1, 0) == 0, "the end is not told of descriptor %d", fd);
}

static void say(int fd, const char *words)
{
	CHECK(send(fd, words, strlen(words), MSG_NOSIGNAL) == (ssize_t)strlen(words), "descriptor %d cannot be written: %d", fd, errno);
}

static void expect_state(int fd, int state)
{
	/* An answer may be on its way. */
	for (int wait = 0; state_of(fd) != state && wait < 500; wait++)
		usleep(10000);
	CHECK(state_of(fd) == state, "descriptor %d is in state %d, was in %d", fd, state_of(fd), state);
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	for (int at = 0; at < FULL; at++)
		text[at] = at * 7 + at / 251;
	int plain[2], six[2], full[2], half[2], waits[2], closing[2], last[2], over[2], options[2], asked[2];
	connected(plain, AF_INET);
	say(plain[0], "to the server");
	say(plain[1], "to the client");
	struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int try = socket(AF_INET6, SOCK_STREAM, 0);
	int has_six = try >= 0 && !bind(try, (struct sockaddr *)&loopback, sizeof loopback);
	close(try);
	if (has_six) {
		connected(six, AF_INET6);
		say(six[0], "six");
	}
	/* More than the other end takes. */
	connected(full, AF_INET);
	int much = fill(full[0]), back = fill(full[1]);
	/* One direction is shut, and what came before waits. */
	connected(half, AF_INET);
	say(half[0], "last words");
	MUST(shutdown(half[0], SHUT_WR));
	/* One is to be shut when the rest is sent. */
	connected(waits, AF_INET);
	int rest = fill(waits[0]);
	MUST(shutdown(waits[0], SHUT_WR));
	/* As before, and the other end is shut too. */
	connected(closing, AF_INET);
	int closed = fill(closing[0]);
	MUST(shutdown(closing[0], SHUT_WR));
	MUST(shutdown(closing[1], SHUT_WR));
	connected(last, AF_INET);
	MUST(shutdown(last[1], SHUT_WR));
	usleep(50000);
	int ended = fill(last[0]);
	MUST(shutdown(last[0], SHUT_WR));
	/* Over. */
	connected(over, AF_INET);
	MUST(shutdown(over[0], SHUT_WR));
	MUST(shutdown(over[1], SHUT_WR));
	asked_for(asked);
	connected(options, AF_INET);
	int on = 1, idle = 77;
	MUST(setsockopt(options[0], SOL_TCP, TCP_NODELAY, &on, sizeof on));
	MUST(setsockopt(options[0], SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
	MUST(setsockopt(options[0], SOL_TCP, TCP_KEEPIDLE, &idle, sizeof idle));
	MUST(setsockopt(options[1], SOL_TCP, TCP_CORK, &on, sizeof on));
	MUST(setsockopt(options[1], SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	usleep(300000);
	int all[] = {plain[0], plain[1], full[0], full[1], half[0], half[1], waits[0], waits[1], closing[0], closing[1], last[0], last[1], over[0], over[1]};
	enum { COUNT = sizeof all / sizeof *all };
	int states[COUNT];
	struct sockaddr_in names[COUNT], peers[COUNT];
	for (int at = 0; at < COUNT; at++) {
		socklen_t length = sizeof *names;
		states[at] = state_of(all[at]);
		MUST(getsockname(all[at], (struct sockaddr *)&names[at], &length));
		if (states[at] != TCP_CLOSE)
			MUST(getpeername(all[at], (struct sockaddr *)&peers[at], &length));
	}
	victim_say("states %d %d %d %d %d %d %d", states[4], states[5], states[6], states[8], states[9], states[10], states[11]);
	victim_ready();
	victim_wait();

	for (int at = 0; at < COUNT; at++) {
		struct sockaddr_in name;
		socklen_t length = sizeof name;
		expect_state(all[at], states[at]);
		if (states[at] == TCP_CLOSE)
			continue;
		MUST(getsockname(all[at], (struct sockaddr *)&name, &length));
		CHECK(!memcmp(&name, &names[at], sizeof name), "descriptor %d has another name", all[at]);
		MUST(getpeername(all[at], (struct sockaddr *)&name, &length));
		CHECK(!memcmp(&name, &peers[at], sizeof name), "descriptor %d has another peer", all[at]);
	}
	expect(plain[1], "to the server");
	expect(plain[0], "to the client");
	say(plain[0], "later");
	expect(plain[1], "later");
	if (has_six) {
		expect(six[1], "six");
		say(six[1], "and back");
		expect(six[0], "and back");
	}
	expect_full(full[1], much, 0);
	expect_full(full[0], back, 0);
	say(full[0], "more");
	expect(full[1], "more");
	expect(half[1], "last words");
	expect_end(half[1]);
	CHECK(send(half[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "what is shut can be written");
	say(half[1], "an answer");
	expect(half[0], "an answer");
	expect_full(waits[1], rest, 1);
	say(waits[1], "thanks");
	expect(waits[0], "thanks");
	expect_full(closing[1], closed, 1);
	expect_end(closing[0]);
	expect_full(last[1], ended, 1);
	expect_end(last[0]);
	expect_end(over[0]);
	expect_end(over[1]);
	CHECK(send(over[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "what is over can be written");
	expect_state(asked[0], TCP_SYN_SENT);
	int value = 0;
	socklen_t length = sizeof value;
	MUST(setsockopt(asked[1], SOL_SOCKET, SO_DETACH_FILTER, &value, length));
	/* It is asked for again after one second, two, four. */
	struct pollfd answer = {.fd = asked[0], .events = POLLOUT};
	CHECK(poll(&answer, 1, 20000) == 1 && answer.revents == POLLOUT, "no answer: %x", answer.revents);
	int accepted = MUST(accept(asked[1], NULL, NULL));
	say(asked[0], "at last");
	expect(accepted, "at last");
	MUST(getsockopt(options[0], SOL_TCP, TCP_NODELAY, &value, &length));
	CHECK(value == 1, "TCP_NODELAY %d", value);
	MUST(getsockopt(options[0], SOL_TCP, TCP_KEEPIDLE, &value, &length));
	CHECK(value == 77, "TCP_KEEPIDLE %d", value);
	MUST(getsockopt(options[1], SOL_TCP, TCP_CORK, &value, &length));
	CHECK(value == 1, "TCP_CORK %d", value);
	MUST(getsockopt(options[1], SOL_SOCKET, SO_REUSEADDR, &value, &length));
	CHECK(value == 1, "SO_REUSEADDR %d", value);
	MUST(getsockopt(options[0], SOL_SOCKET, SO_REUSEADDR, &value, &length));
	CHECK(value == 0, "SO_REUSEADDR came: %d", value);
	return victim_pass();
}
