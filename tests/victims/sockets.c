/* Pairs of Unix sockets with what waits in them: streams, datagrams, packets; shut directions, options, one shared with a child. */
#include "victim.h"
#include <sys/socket.h>
#include <sys/wait.h>

static char text[70000];

static void expect(int fd, const char *wanted, int length)
{
	ssize_t got = recv(fd, text, sizeof text, MSG_DONTWAIT);
	CHECK(got == length && !memcmp(text, wanted, length), "descriptor %d: %zd bytes [%.20s], wanted [%s]", fd, got, text, wanted);
}

static void expect_empty(int fd)
{
	CHECK(recv(fd, text, sizeof text, MSG_DONTWAIT) == -1 && errno == EAGAIN, "descriptor %d holds more", fd);
}

int main(int argc, char **argv)
{
	int stream[2], datagram[2], packet[2], shut[2], shared[2], large[2];
	victim_start(argc, argv);
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, stream));
	MUST(write(stream[0], "to one", 6));
	MUST(write(stream[1], "to the ", 7));
	MUST(write(stream[1], "other", 5));
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagram));
	MUST(send(datagram[0], "first", 5, 0));
	MUST(send(datagram[0], "second message", 14, 0));
	MUST(send(datagram[0], "third", 5, 0));
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packet));
	MUST(send(packet[1], "one", 3, 0));
	MUST(send(packet[1], "two", 3, 0));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, shut));
	MUST(write(shut[0], "last words", 10));
	MUST(shutdown(shut[0], SHUT_WR));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, large));
	int size = 300000, on = 1;
	MUST(setsockopt(large[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
	MUST(setsockopt(packet[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
	struct timeval limit = {.tv_sec = 3, .tv_usec = 250000};
	MUST(setsockopt(large[1], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
	for (int at = 0; at < 60000; at++)
		text[at] = at * 3 + at / 255;
	MUST(write(large[0], text, 60000));
	socklen_t length = sizeof size;
	MUST(getsockopt(large[0], SOL_SOCKET, SO_SNDBUF, &size, &length));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, shared));
	pid_t child = MUST(fork());
	if (!child) {
		char word[4] = {0};
		close(shared[0]);
		while (read(shared[1], word, 4) == 4)
			if (write(shared[1], memcmp(word, "ask?", 4) ? "what" : "yes!", 4) != 4)
				_exit(1);
		_exit(7);
	}
	MUST(close(shared[1]));
	victim_ready();
	victim_wait();

	expect(stream[1], "to one", 6);
	expect(stream[0], "to the other", 12);
	expect_empty(stream[0]);
	CHECK(fcntl(stream[0], F_GETFL) & O_NONBLOCK && fcntl(stream[0], F_GETFD) == FD_CLOEXEC, "flags");
	MUST(write(stream[0], "later", 5));
	expect(stream[1], "later", 5);
	expect(datagram[1], "first", 5);
	expect(datagram[1], "second message", 14);
	expect(datagram[1], "third", 5);
	expect_empty(datagram[1]);
	expect(packet[0], "one", 3);
	expect(packet[0], "two", 3);
	int kind;
	length = sizeof kind;
	CHECK(!getsockopt(packet[0], SOL_SOCKET, SO_TYPE, &kind, &length) && kind == SOCK_SEQPACKET, "kind");
	expect(shut[1], "last words", 10);
	CHECK(recv(shut[1], text, 10, MSG_DONTWAIT) == 0, "its end is not told");
	CHECK(send(shut[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "it can be written");
	MUST(write(shut[1], "back", 4));
	expect(shut[0], "back", 4);
	int now = 0;
	length = sizeof now;
	CHECK(!getsockopt(large[0], SOL_SOCKET, SO_SNDBUF, &now, &length) && now == size, "SO_SNDBUF %d, was %d", now, size);
	length = sizeof now;
	CHECK(!getsockopt(packet[1], SOL_SOCKET, SO_PASSCRED, &now, &length) && now == 1, "SO_PASSCRED");
	length = sizeof limit;
	CHECK(!getsockopt(large[1], SOL_SOCKET, SO_RCVTIMEO, &limit, &length) && limit.tv_sec == 3 && limit.tv_usec >= 248000, "SO_RCVTIMEO %ld.%06ld",
	      (long)limit.tv_sec, (long)limit.tv_usec);
	int got = 0;
	for (ssize_t part; got < 60000 && (part = recv(large[1], text + got, 60000 - got, MSG_DONTWAIT)) > 0;)
		got += part;
	CHECK(got == 60000, "%d bytes of 60000", got);
	for (int at = 0; at < 60000; at++)
		CHECK(text[at] == (char)(at * 3 + at / 255), "byte %d", at);
	char answer[5] = {0};
	MUST(write(shared[0], "ask?", 4));
	CHECK(read(shared[0], answer, 4) == 4 && !strcmp(answer, "yes!"), "the child answers [%s]", answer);
	MUST(close(shared[0]));
	int status;
	CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7, "the child is not told of the end");
	return victim_pass();
}
