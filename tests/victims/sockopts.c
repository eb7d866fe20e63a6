/*
 * Options of Unix sockets: each that the kernel takes is set on a pair of its own, in streams, datagrams and packets, and whatever
 * is told of any option has to be told after the restore. Filters; and what was set and unset again.
 */
#include "victim.h"
#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum { OPTIONS = 100, PAIRS = 400 };

static int fds[PAIRS * 2], count;
static struct told {
	int length;
	unsigned char value[16];
} before[PAIRS * 2][OPTIONS];

/* What is another in each socket, or an error, memory in use, another descriptor each time. */
static int is_other(int option)
{
	return option == SO_ERROR || option == 57 /* SO_COOKIE */ || option == 55 /* SO_MEMINFO */ || option == 77 /* SO_PEERPIDFD */ ||
	       option == SO_ATTACH_FILTER;
}

static void ask(int fd, int option, struct told *told)
{
	socklen_t length = option == SO_PEERNAME || option == SO_PEERSEC ? 0 : sizeof told->value;
	memset(told, 0, sizeof *told);
	told->length = getsockopt(fd, SOL_SOCKET, option, told->value, &length) ? -errno : (int)length;
	if (told->length > 0 && told->length < 4)
		told->length = 4;
}

static int *pair(int kind)
{
	int *ends = fds + count;
	CHECK(count < PAIRS * 2, "set-up: too many pairs");
	MUST(socketpair(AF_UNIX, kind, 0, ends));
	count += 2;
	return ends;
}

static void set_two(int fd, int option, int one, int two)
{
	int value[2] = {one, two};
	MUST(setsockopt(fd, SOL_SOCKET, option, value, sizeof value));
}

static void attach(int fd, struct sock_filter *all, int length)
{
	struct sock_fprog program = {length, all};
	MUST(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
}

int main(int argc, char **argv)
{
	static const int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
	/* Lets through what begins with an A. */
	struct sock_filter only_a[] = {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'A', 0, 1),
				       BPF_STMT(BPF_RET | BPF_K, 0xffff), BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_filter many[40];
	int changed = 0;
	victim_start(argc, argv);
	MUST(fcntl(victim_log, F_SETFD, FD_CLOEXEC));
	for (int kind = 0; kind < 3; kind++) {
		for (int option = 1; option < OPTIONS; option++) {
			/* Those of another shape come below; kept apart from all others, as not everything goes together. */
			if (option == SO_ATTACH_FILTER || option == SO_BINDTODEVICE || option == SO_RCVTIMEO || option == SO_SNDTIMEO ||
			    option == 50 || option == 51 || option == 52 || option == SO_DETACH_FILTER || option == 68 || option == 80 || option == 84)
				continue;
			struct told was, now;
			int *ends = pair(kinds[kind]);
			int value = option == 83 || option == SO_LOCK_FILTER ? option != 83 : option == 62 ? 1 : 3;
			ask(ends[0], option, &was);
			if (is_other(option) || was.length < 0) {
				count -= 2;
				close(ends[0]), close(ends[1]);
				continue;
			}
			if (option == SO_SNDBUF || option == SO_RCVBUF)
				value = 50000;
			if (was.length == 8 && (option == SO_TIMESTAMPING || option == 65))
				set_two(ends[0], option, 8 | 16, 0);
			else if (was.length == 8 && option != 47)
				setsockopt(ends[0], SOL_SOCKET, option, (int[]){1, 2}, 8);
			else
				setsockopt(ends[0], SOL_SOCKET, option, &value, sizeof value);
			ask(ends[0], option, &now);
			changed += memcmp(&was, &now, sizeof was) != 0;
		}
		int *ends = pair(kinds[kind]);
		struct timeval limit = {.tv_sec = 3, .tv_usec = 252000};
		MUST(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
		MUST(setsockopt(ends[1], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit));
		MUST(setsockopt(ends[0], SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
		ends = pair(kinds[kind]);
		set_two(ends[0], SO_LINGER, 1, 7);
		set_two(ends[0], SO_LINGER, 0, 9);
		set_two(ends[1], SO_LINGER, 1, 0);
		/* The size is the program's, and is not held. */
		int size = 30000, none = 0;
		MUST(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
		setsockopt(ends[0], SOL_SOCKET, 72 /* SO_BUF_LOCK */, &none, sizeof none);
		/* Stamps of the new form, for both options. */
		ends = pair(kinds[kind]);
		int on = 1;
		set_two(ends[0], 65, 8 | 16, 0);
		setsockopt(ends[0], SOL_SOCKET, 64, &on, sizeof on);
	}
	CHECK(changed >= 80, "set-up: %d options take another value", changed);
	/* Messages wait in a socket whose looks begin later, in one that wants pidfds, and in one whose filter lets no more of their kind in. */
	int *looked = pair(SOCK_STREAM), *filtered = pair(SOCK_DGRAM), *locked = pair(SOCK_SEQPACKET), *pidfds = pair(SOCK_DGRAM), from = 3, on = 1;
	MUST(send(looked[1], "abcdef", 6, 0));
	MUST(setsockopt(looked[0], SOL_SOCKET, SO_PEEK_OFF, &from, sizeof from));
	MUST(send(filtered[1], "before", 6, 0));
	attach(filtered[0], only_a, 4);
	for (int at = 0; at < 40; at++)
		many[at] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0xffff - at);
	attach(locked[0], many, 40);
	MUST(setsockopt(locked[0], SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on));
	MUST(send(pidfds[1], "who", 3, 0));
	setsockopt(pidfds[0], SOL_SOCKET, 76, &on, sizeof on);
	for (int at = 0; at < count; at++)
		for (int option = 1; option < OPTIONS; option++)
			if (!is_other(option))
				ask(fds[at], option, &before[at][option]);
	victim_ready();
	victim_wait();

	for (int at = 0; at < count; at++)
		for (int option = 1; option < OPTIONS; option++) {
			struct told now;
			if (is_other(option))
				continue;
			ask(fds[at], option, &now);
			struct told *was = &before[at][option];
			CHECK(!memcmp(&now, was, sizeof now), "descriptor %d, option %d: %d bytes %08x%08x, was %d bytes %08x%08x", fds[at], option,
			      now.length, ((int *)now.value)[0], ((int *)now.value)[1], was->length, ((int *)was->value)[0], ((int *)was->value)[1]);
		}
	char text[20] = {0};
	CHECK(recv(looked[0], text, 20, MSG_PEEK) == 3 && !memcmp(text, "def", 3), "a look begins at [%s]", text);
	CHECK(recv(looked[0], text, 20, 0) == 6 && !memcmp(text, "abcdef", 6), "what waited is [%s]", text);
	CHECK(recv(filtered[0], text, 20, MSG_DONTWAIT) == 6 && !memcmp(text, "before", 6), "the message of before the filter is gone");
	send(filtered[1], "Before", 6, MSG_DONTWAIT);
	send(filtered[1], "After", 5, MSG_DONTWAIT);
	CHECK(recv(filtered[0], text, 20, MSG_DONTWAIT) == 5 && !memcmp(text, "After", 5), "the filter lets through [%.6s]", text);
	struct sock_filter got[40] = {{0}};
	socklen_t length = 40;
	CHECK(!getsockopt(locked[0], SOL_SOCKET, SO_ATTACH_FILTER, got, &length) && length == 40, "a filter of %u instructions", length);
	CHECK(!memcmp(got, many, sizeof many), "its filter is another");
	CHECK(setsockopt(locked[0], SOL_SOCKET, SO_DETACH_FILTER, &on, sizeof on) == -1 && errno == EPERM, "its filter can be taken off");
	CHECK(recv(pidfds[0], text, 20, MSG_DONTWAIT) == 3 && !memcmp(text, "who", 3), "what waits where pidfds are wanted");
	return victim_pass();
}
