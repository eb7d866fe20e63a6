/* Datagrams that wait: of several senders, one that is nowhere near, empty ones, long ones, with their hops and class; in sockets that
 * are connected, of IPv6, of both families, of UDP-Lite. */
#include "victim.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static char large[60000];

static in_addr_t own_address(int number)
{
	return htonl(0x7f600000 + (number << 16) + (getpid() & 0xffff));
}

static int bound(int protocol, in_addr_t ip)
{
	int fd = MUST(socket(AF_INET, SOCK_DGRAM, protocol)), on = 1;
	setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof on);
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = ip};
	MUST(bind(fd, (struct sockaddr *)&name, sizeof name));
	return fd;
}

static union address name_of(int fd, socklen_t *length)
{
	union address name = {0};
	*length = sizeof name;
	MUST(getsockname(fd, &name.any, length));
	return name;
}

static void say(int from, int to, const void *words, size_t count)
{
	socklen_t length;
	union address name = name_of(to, &length);
	MUST(sendto(from, words, count, 0, &name.any, length));
}

/* The next datagram is this one, from that socket, with so many hops left, where this is asked. */
static void expect(int fd, const void *words, size_t count, union address from, int hops)
{
	static char got[65536];
	char control[256];
	union address sender = {0};
	struct iovec part = {got, sizeof got};
	struct msghdr message = {&sender, sizeof sender, &part, 1, control, sizeof control, 0};
	ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT);
	CHECK(length == (ssize_t)count && !memcmp(got, words, count), "%zd bytes [%.9s], not %zu", length, got, count);
	CHECK(sender.v4.sin_port == from.v4.sin_port, "from port %d", ntohs(sender.v4.sin_port));
	if (sender.any.sa_family == AF_INET)
		CHECK(sender.v4.sin_addr.s_addr == from.v4.sin_addr.s_addr, "from %s", inet_ntoa(sender.v4.sin_addr));
	int has = -1;
	for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at))
		if (at->cmsg_level == SOL_IP && at->cmsg_type == IP_TTL)
			has = *(int *)CMSG_DATA(at);
	CHECK(!hops || has == hops, "%d hops, not %d", has, hops);
}

static void expect_nothing(int fd)
{
	char byte;
	CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN, "more waits in descriptor %d", fd);
}

static int get(int fd, int level, int option)
{
	int value = -2;
	socklen_t length = sizeof value;
	getsockopt(fd, level, option, &value, &length);
	return value;
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	socklen_t length;
	for (unsigned at = 0; at < sizeof large; at++)
		large[at] = at * 7 + at / 251;
	int one = bound(0, own_address(0)), other = bound(0, own_address(1)), far = bound(0, inet_addr("203.0.113.9"));
	int near_hops = 33, class = 0x28, on = 1;
	MUST(setsockopt(other, SOL_IP, IP_TTL, &near_hops, sizeof near_hops));
	MUST(setsockopt(other, SOL_IP, IP_TOS, &class, sizeof class));
	int busy = bound(0, own_address(0)), peer = bound(0, own_address(2)), lite = bound(IPPROTO_UDPLITE, own_address(0));
	int from_lite = bound(IPPROTO_UDPLITE, own_address(1));
	MUST(setsockopt(busy, SOL_IP, IP_RECVTTL, &on, sizeof on));
	say(one, busy, "", 0);
	say(one, busy, "first", 5);
	say(other, busy, "second", 6);
	say(far, busy, "from afar", 9);
	say(one, busy, "", 0);
	say(one, busy, large, sizeof large);
	/* It had heard a stranger before it was connected. */
	say(far, peer, "stranger", 8);
	union address one_name = name_of(one, &length), other_name = name_of(other, &length), far_name = name_of(far, &length);
	MUST(connect(peer, &one_name.any, sizeof one_name.v4));
	say(one, peer, "friend", 6);
	say(from_lite, lite, "light", 5);
	union address lite_name = name_of(from_lite, &length), six_name = {0};
	int six = socket(AF_INET6, SOCK_DGRAM, 0), both = -1;
	struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	if (six >= 0 && !bind(six, (struct sockaddr *)&loopback, sizeof loopback)) {
		/* A port below those that the kernel gives: nobody else has taken it when it comes back. */
		struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(20000 + getpid() % 10000)};
		both = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
		MUST(bind(both, (struct sockaddr *)&any, sizeof any));
		six_name = name_of(six, &length);
		say(six, six, "six", 3);
		union address to = name_of(both, &length);
		to.v6.sin6_addr = in6addr_loopback;
		MUST(sendto(six, "to six", 6, 0, &to.any, sizeof to.v6));
		struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = to.v6.sin6_port, .sin_addr.s_addr = own_address(3)};
		MUST(sendto(one, "to four", 7, 0, (struct sockaddr *)&four, sizeof four));
	}
	int room = get(busy, SOL_SOCKET, SO_RCVBUF), lock = get(busy, SOL_SOCKET, 72 /* SO_BUF_LOCK */);
	victim_ready();
	victim_wait();

	CHECK(get(busy, SOL_IP, IP_RECVTTL) == 1 && get(busy, SOL_IP, IP_RECVTOS) == 0, "options of a look");
	CHECK(get(busy, SOL_IP, IP_PKTINFO) == 0 && get(busy, SOL_SOCKET, SO_PEEK_OFF) == -1, "options of a look");
	CHECK(get(busy, SOL_SOCKET, SO_RCVBUF) == room && get(busy, SOL_SOCKET, 72) == lock, "room");
	expect(busy, "", 0, one_name, 64);
	expect(busy, "first", 5, one_name, 64);
	MUST(setsockopt(busy, SOL_IP, IP_RECVTOS, &on, sizeof on));
	expect(busy, "second", 6, other_name, near_hops);
	expect(busy, "from afar", 9, far_name, 64);
	expect(busy, "", 0, one_name, 64);
	expect(busy, large, sizeof large, one_name, 64);
	expect_nothing(busy);
	expect(peer, "stranger", 8, far_name, 0);
	expect(peer, "friend", 6, one_name, 0);
	expect_nothing(peer);
	CHECK(send(peer, "x", 1, 0) == 1 && recv(one, large, 1, MSG_DONTWAIT) == 1, "it is not connected");
	expect(lite, "light", 5, lite_name, 0);
	expect_nothing(lite);
	if (both >= 0) {
		expect(six, "six", 3, six_name, 0);
		expect(both, "to six", 6, six_name, 0);
		expect(both, "to four", 7, one_name, 0);
		expect_nothing(both);
	}
	return victim_pass();
}
