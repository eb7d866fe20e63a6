/* Sockets of the network that are connected to nobody: names, options, listening ones, datagrams, groups, directions that are shut. */
#include "victim.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* An address of its own, and a port below those that the kernel gives: nobody else has taken them when it comes back. */
static in_addr_t own_address(void)
{
	return htonl(0x7f4d0000 | (getpid() & 0xffff));
}

static in_port_t own_port(void)
{
	return htons(20000 + getpid() % 10000);
}

static union address name_of(int fd)
{
	union address name = {0};
	socklen_t length = sizeof name;
	MUST(getsockname(fd, &name.any, &length));
	return name;
}

static int bound(int type)
{
	int fd = MUST(socket(AF_INET, type, 0));
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = own_address()};
	MUST(bind(fd, (struct sockaddr *)&name, sizeof name));
	return fd;
}

static void set(int fd, int level, int option, int value)
{
	MUST(setsockopt(fd, level, option, &value, sizeof value));
}

static int get(int fd, int level, int option)
{
	int value = 0;
	socklen_t length = sizeof value;
	if (getsockopt(fd, level, option, &value, &length))
		return -1;
	return value;
}

static void expect_name(int fd, union address wanted)
{
	union address name = name_of(fd);
	CHECK(!memcmp(&name, &wanted, sizeof name), "descriptor %d is called otherwise", fd);
}

/* A connection to a listening socket is accepted, and words go through it. */
static void expect_served(int listener)
{
	union address name = name_of(listener);
	if (name.any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&name.v6.sin6_addr))
		name.v6.sin6_addr = in6addr_loopback;
	int client = MUST(socket(name.any.sa_family, SOCK_STREAM, 0));
	MUST(connect(client, &name.any, name.any.sa_family == AF_INET6 ? sizeof name.v6 : sizeof name.v4));
	int server = MUST(accept(listener, NULL, NULL));
	char words[6] = {0};
	MUST(write(client, "hello", 5));
	CHECK(read(server, words, 5) == 5 && !strcmp(words, "hello"), "words of a client");
	close(client);
	close(server);
}

/* An option that this kernel has is what it was. */
struct option {
	int level, name, value;
};

static const struct option of_tcp[] = {
	{SOL_TCP, TCP_NODELAY, 1}, {SOL_TCP, TCP_KEEPIDLE, 61}, {SOL_TCP, TCP_KEEPINTVL, 7}, {SOL_TCP, TCP_KEEPCNT, 3},
	{SOL_TCP, TCP_SYNCNT, 4}, {SOL_TCP, TCP_LINGER2, 17}, {SOL_TCP, TCP_DEFER_ACCEPT, 7}, {SOL_TCP, TCP_WINDOW_CLAMP, 50000},
	{SOL_TCP, TCP_USER_TIMEOUT, 12345}, {SOL_TCP, TCP_FASTOPEN, 5}, {SOL_TCP, 25 /* NOTSENT_LOWAT */, 4096},
	{SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1}, {SOL_TCP, 27 /* SAVE_SYN */, 1}, {SOL_TCP, 37 /* TX_DELAY */, 1000},
	{SOL_TCP, TCP_MAXSEG, 1000}, {SOL_IP, IP_TOS, 0x10}, {SOL_IP, IP_TTL, 33}, {SOL_IP, IP_MINTTL, 3}, {SOL_IP, IP_FREEBIND, 1},
	{SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO}, {SOL_SOCKET, SO_KEEPALIVE, 1}, {SOL_SOCKET, SO_PRIORITY, 5},
	{SOL_SOCKET, 60 /* ZEROCOPY */, 1}, {SOL_SOCKET, 47 /* MAX_PACING_RATE */, 1000000}, {SOL_TCP, 36 /* INQ */, 1}, {SOL_SOCKET, SO_OOBINLINE, 1},
};
static const struct option of_udp[] = {
	{SOL_IP, IP_RECVTTL, 1}, {SOL_IP, IP_RECVTOS, 1}, {SOL_IP, IP_RECVERR, 1}, {SOL_IP, IP_PKTINFO, 1}, {SOL_IP, IP_TRANSPARENT, 1},
	{SOL_IP, IP_MULTICAST_TTL, 9}, {SOL_IP, IP_MULTICAST_LOOP, 0}, {SOL_IP, IP_MULTICAST_ALL, 0}, {IPPROTO_UDP, 103 /* SEGMENT */, 1200},
	{IPPROTO_UDP, 104 /* GRO */, 1}, {SOL_SOCKET, SO_BROADCAST, 1}, {SOL_SOCKET, SO_TIMESTAMP, 1}, {SOL_SOCKET, SO_REUSEADDR, 1},
	{SOL_SOCKET, SO_MARK, 7}, {SOL_SOCKET, SO_RXQ_OVFL, 1}, {SOL_SOCKET, SO_PEEK_OFF, 3}, {SOL_SOCKET, SO_BUSY_POLL, 50},
	{SOL_SOCKET, 49 /* INCOMING_CPU */, 1}, {SOL_SOCKET, SO_TIMESTAMPING, 8}, {SOL_SOCKET, 82 /* RCVPRIORITY */, 1},
	{SOL_IP, IP_RECVORIGDSTADDR, 1}, {SOL_IP, 26 /* RECVERR_RFC4884 */, 1},
};
static const struct option of_six[] = {
	{SOL_IPV6, IPV6_V6ONLY, 1}, {SOL_IPV6, IPV6_UNICAST_HOPS, 21}, {SOL_IPV6, IPV6_MULTICAST_HOPS, 22}, {SOL_IPV6, IPV6_TCLASS, 0x20},
	{SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO}, {SOL_IPV6, IPV6_DONTFRAG, 1}, {SOL_IPV6, IPV6_RECVPKTINFO, 1},
	{SOL_IPV6, IPV6_RECVHOPLIMIT, 1}, {SOL_IPV6, IPV6_RECVTCLASS, 1}, {SOL_IPV6, IPV6_RECVERR, 1}, {SOL_IPV6, IPV6_MULTICAST_LOOP, 0},
};
#define ALL(list) (list), sizeof(list) / sizeof *(list)

static int values[64];

static void set_all(int fd, const struct option *list, unsigned count)
{
	for (unsigned at = 0; at < count; at++)
		if (setsockopt(fd, list[at].level, list[at].name, &list[at].value, sizeof list[at].value))
			fprintf(stderr, "option %d of level %d is not there\n", list[at].name, list[at].level);
}

static void expect_all(int fd, const struct option *list, unsigned count, const int *before)
{
	for (unsigned at = 0; at < count; at++) {
		int now = get(fd, list[at].level, list[at].name);
		CHECK(now == before[at], "option %d of level %d is %d, was %d", list[at].name, list[at].level, now, before[at]);
	}
}

static void note_all(int fd, const struct option *list, unsigned count, int *before)
{
	for (unsigned at = 0; at < count; at++)
		before[at] = get(fd, list[at].level, list[at].name);
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	int tcp_before[32], udp_before[32], six_before[32];
	/* Nowhere yet. */
	int unbound = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
	int unbound_udp = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
	/* Listening: one of one address, two that share a port, one with all options, one of both families. */
	int listener = bound(SOCK_STREAM);
	MUST(listen(listener, 9));
	int group[2];
	for (int one = 0; one < 2; one++) {
		group[one] = MUST(socket(AF_INET, SOCK_STREAM, 0));
		set(group[one], SOL_SOCKET, SO_REUSEPORT, 1);
		union address name = {.v4 = {.sin_family = AF_INET, .sin_addr.s_addr = own_address()}};
		if (one)
			name = name_of(group[0]);
		MUST(bind(group[one], &name.any, sizeof name.v4));
		MUST(listen(group[one], 5));
	}
	int optioned = MUST(socket(AF_INET, SOCK_STREAM, 0));
	set_all(optioned, ALL(of_tcp));
	struct sockaddr_in elsewhere = {.sin_family = AF_INET, .sin_addr.s_addr = own_address()};
	MUST(bind(optioned, (struct sockaddr *)&elsewhere, sizeof elsewhere));
	MUST(setsockopt(optioned, SOL_TCP, TCP_CONGESTION, "reno", 4));
	MUST(listen(optioned, 3));
	note_all(optioned, ALL(of_tcp), tcp_before);
	int both = socket(AF_INET6, SOCK_STREAM, 0);
	if (both >= 0) {
		struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = own_port()};
		MUST(bind(both, (struct sockaddr *)&any, sizeof any));
		MUST(listen(both, 2));
	}
	int waiting = bound(SOCK_STREAM);
	/* Datagrams: two that are connected to each other, one with options, one shut, one of IPv6, one in a group. */
	int one = bound(SOCK_DGRAM), other = bound(SOCK_DGRAM);
	union address one_name = name_of(one), other_name = name_of(other);
	MUST(connect(one, &other_name.any, sizeof other_name.v4));
	MUST(connect(other, &one_name.any, sizeof one_name.v4));
	int special = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	set_all(special, ALL(of_udp));
	MUST(setsockopt(special, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
	struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = own_address()};
	MUST(bind(special, (struct sockaddr *)&local, sizeof local));
	note_all(special, ALL(of_udp), udp_before);
	int shut = bound(SOCK_DGRAM);
	MUST(connect(shut, &one_name.any, sizeof one_name.v4));
	MUST(shutdown(shut, SHUT_WR));
	int six = socket(AF_INET6, SOCK_DGRAM, 0);
	if (six >= 0) {
		set_all(six, ALL(of_six));
		struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_port = own_port(), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
		if (bind(six, (struct sockaddr *)&loopback, sizeof loopback))
			fprintf(stderr, "there is no ::1\n");
		note_all(six, ALL(of_six), six_before);
	}
	int member = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	struct sockaddr_in everywhere = {.sin_family = AF_INET, .sin_port = own_port()};
	MUST(bind(member, (struct sockaddr *)&everywhere, sizeof everywhere));
	struct ip_mreqn request = {.imr_multiaddr.s_addr = htonl(0xefff4d01), .imr_ifindex = if_nametoindex("lo")};
	MUST(setsockopt(member, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request));
	struct ip_mreq_source source = {.imr_multiaddr.s_addr = htonl(0xefff4d02), .imr_interface.s_addr = htonl(INADDR_LOOPBACK),
					.imr_sourceaddr.s_addr = htonl(0x7f000005)};
	MUST(setsockopt(member, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &source, sizeof source));
	int raw = MUST(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	int mask = ~(1 << 8);
	MUST(setsockopt(raw, 255, 1, &mask, sizeof mask));
	/* No packet has this protocol, and nobody sends from that address: they would hear packets of other tests. */
	const int above_a_byte = 262;
	int silent = MUST(socket(AF_INET, SOCK_RAW, above_a_byte));
	int segments = MUST(socket(AF_INET, SOCK_RAW, IPPROTO_TCP));
	struct sockaddr_in nobody = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f586354)};
	MUST(connect(segments, (struct sockaddr *)&nobody, sizeof nobody));
	char heard[64] = {0};
	while (recv(segments, heard, sizeof heard, MSG_DONTWAIT) >= 0)
		;

	int all[] = {listener, group[0], optioned, waiting, one, other, special, shut, member};
	union address names[sizeof all / sizeof *all];
	for (unsigned at = 0; at < sizeof all / sizeof *all; at++)
		names[at] = name_of(all[at]);
	victim_ready();
	victim_wait();

	for (unsigned at = 0; at < sizeof all / sizeof *all; at++)
		expect_name(all[at], names[at]);
	CHECK(fcntl(unbound, F_GETFL) & O_NONBLOCK && fcntl(unbound, F_GETFD) == FD_CLOEXEC, "flags");
	CHECK(name_of(unbound).v4.sin_port == 0 && name_of(unbound_udp).v6.sin6_port == 0, "what had no name has one");
	struct tcp_info info;
	socklen_t length = sizeof info;
	MUST(getsockopt(listener, SOL_TCP, TCP_INFO, &info, &length));
	CHECK(info.tcpi_state == TCP_LISTEN && info.tcpi_sacked == 9, "backlog %d", info.tcpi_sacked);
	CHECK(get(listener, SOL_SOCKET, SO_REUSEADDR) == 0 && get(waiting, SOL_SOCKET, SO_REUSEADDR) == 0, "SO_REUSEADDR came");
	expect_served(listener);
	CHECK(get(group[1], SOL_SOCKET, SO_REUSEPORT) == 1, "SO_REUSEPORT");
	int joined = bound(SOCK_STREAM);
	CHECK(bind(joined, &names[1].any, sizeof names[1].v4) == -1, "a name that is in use can be had");
	expect_all(optioned, ALL(of_tcp), tcp_before);
	char congestion[16] = {0};
	length = sizeof congestion;
	MUST(getsockopt(optioned, SOL_TCP, TCP_CONGESTION, congestion, &length));
	CHECK(!strcmp(congestion, "reno"), "TCP_CONGESTION [%s]", congestion);
	if (both >= 0)
		expect_served(both);
	MUST(listen(waiting, 1));
	expect_served(waiting);
	char words[16] = {0};
	MUST(send(one, "there", 5, 0));
	CHECK(recv(other, words, sizeof words, MSG_DONTWAIT) == 5 && !memcmp(words, "there", 5), "a datagram there");
	MUST(send(other, "back", 4, 0));
	CHECK(recv(one, words, sizeof words, MSG_DONTWAIT) == 4 && !memcmp(words, "back", 4), "a datagram back");
	expect_all(special, ALL(of_udp), udp_before);
	char device[IFNAMSIZ] = {0};
	length = sizeof device;
	MUST(getsockopt(special, SOL_SOCKET, SO_BINDTODEVICE, device, &length));
	CHECK(!strcmp(device, "lo"), "SO_BINDTODEVICE [%s]", device);
	CHECK(send(shut, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "it can be sent from");
	if (six >= 0)
		expect_all(six, ALL(of_six), six_before);
	/* A second membership is refused, one that is not there can not be left. */
	CHECK(setsockopt(member, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request) == -1 && errno == EADDRINUSE, "the group is not there");
	CHECK(setsockopt(member, IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP, &source, sizeof source) == 0, "the sender is not heard");
	length = sizeof values;
	mask = 0;
	length = sizeof mask;
	MUST(getsockopt(raw, 255, 1, &mask, &length));
	CHECK(mask == ~(1 << 8), "ICMP_FILTER %x", mask);
	int protocol = 0;
	MUST(getsockopt(silent, SOL_SOCKET, SO_PROTOCOL, &protocol, &length));
	CHECK(protocol == above_a_byte, "raw protocol %d", protocol);
	MUST(getsockopt(segments, SOL_SOCKET, SO_PROTOCOL, &protocol, &length));
	CHECK(protocol == IPPROTO_TCP, "raw protocol %d of TCP", protocol);
	/* Without a port getpeername tells nothing, but what goes out without an address goes there. */
	CHECK(send(segments, heard, 20, 0) == 20, "it is connected to nobody");
	return victim_pass();
}
