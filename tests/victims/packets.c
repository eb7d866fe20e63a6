/* Sockets of netlink and of packets: numbers, groups, what they are connected to, options, memberships, rings, fanout. */
#include "victim.h"
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sys/socket.h>

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

static int get(int fd, int level, int option)
{
	int value = -1;
	socklen_t length = sizeof value;
	if (getsockopt(fd, level, option, &value, &length))
		return -1;
	return value;
}

static void set(int fd, int level, int option, int value)
{
	MUST(setsockopt(fd, level, option, &value, sizeof value));
}

static struct sockaddr_nl number_of(int fd)
{
	struct sockaddr_nl name = {0};
	socklen_t length = sizeof name;
	MUST(getsockname(fd, (struct sockaddr *)&name, &length));
	return name;
}

/* The kernel answers: what is asked of it is loopback. */
static void expect_answer(int fd)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg link;
	} ask = {{.nlmsg_len = sizeof ask, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST}, {.ifi_index = if_nametoindex("lo")}};
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	MUST(sendto(fd, &ask, sizeof ask, 0, (struct sockaddr *)&kernel, sizeof kernel));
	char answer[8192];
	ssize_t length = MUST(recv(fd, answer, sizeof answer, 0));
	struct nlmsghdr *head = (struct nlmsghdr *)answer;
	CHECK(length > (ssize_t)sizeof *head && head->nlmsg_type == RTM_NEWLINK, "the kernel answers %d", head->nlmsg_type);
}

static void note_groups(int fd, uint32_t *words)
{
	socklen_t length = 64;
	memset(words, 0, 64);
	MUST(getsockopt(fd, SOL_NETLINK, 9 /* NETLINK_LIST_MEMBERSHIPS */, words, &length));
}

static void hear(int fd, struct packet_mreq *request, int type)
{
	*request = (struct packet_mreq){.mr_ifindex = if_nametoindex("lo"), .mr_type = type};
	MUST(setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, request, sizeof *request));
}

static struct sockaddr_ll place_of(int fd)
{
	struct sockaddr_ll name = {0};
	socklen_t length = sizeof name;
	MUST(getsockname(fd, (struct sockaddr *)&name, &length));
	return name;
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	int new = MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	int bound = MUST(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_ROUTE));
	struct sockaddr_nl name = {.nl_family = AF_NETLINK, .nl_pid = 0x40000000 | getpid(), .nl_groups = 0};
	MUST(bind(bound, (struct sockaddr *)&name, sizeof name));
	/* Groups that nobody speaks to while this waits: of addresses of decnet, and one behind the first 32. */
	set(bound, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_DECnet_IFADDR);
	set(bound, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, 33);
	set(bound, SOL_NETLINK, NETLINK_PKTINFO, 1);
	set(bound, SOL_NETLINK, 11 /* NETLINK_EXT_ACK */, 1);
	set(bound, SOL_SOCKET, SO_PASSCRED, 1);
	int events = MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK)), peer = MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK));
	name.nl_pid = 0x41000000 | getpid();
	MUST(bind(events, (struct sockaddr *)&name, sizeof name));
	MUST(connect(peer, (struct sockaddr *)&name, sizeof name));
	struct sockaddr_nl peers = number_of(peer);
	uint32_t before[16], after[16];
	note_groups(bound, before);

	int packets = socket(AF_PACKET, SOCK_RAW, 0), shared = -1;
	struct packet_mreq all, one;
	struct sockaddr_ll place;
	int fanout = 0;
	if (packets >= 0) {
		set(packets, SOL_PACKET, PACKET_VERSION, TPACKET_V2);
		set(packets, SOL_PACKET, PACKET_AUXDATA, 1);
		set(packets, SOL_PACKET, PACKET_RESERVE, 16);
		set(packets, SOL_PACKET, 20 /* PACKET_QDISC_BYPASS */, 1);
		struct tpacket_req ring = {.tp_block_size = 4096, .tp_block_nr = 2, .tp_frame_size = 1024, .tp_frame_nr = 8};
		MUST(setsockopt(packets, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring));
		hear(packets, &all, PACKET_MR_PROMISC);
		/* A protocol that nobody speaks. */
		shared = MUST(socket(AF_PACKET, SOCK_DGRAM, 0));
		struct sockaddr_ll where = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = if_nametoindex("lo")};
		MUST(bind(shared, (struct sockaddr *)&where, sizeof where));
		set(shared, SOL_PACKET, PACKET_ORIGDEV, 1);
		set(shared, SOL_PACKET, PACKET_FANOUT, (getpid() & 0xffff) | PACKET_FANOUT_LB << 16);
		fanout = get(shared, SOL_PACKET, PACKET_FANOUT);
		hear(shared, &one, PACKET_MR_ALLMULTI);
		place = place_of(shared);
	}
	victim_ready();
	victim_wait();

	CHECK(number_of(new).nl_pid == 0 && get(new, SOL_NETLINK, NETLINK_PKTINFO) == 0, "a new one");
	expect_answer(new);
	CHECK(number_of(bound).nl_pid == (0x40000000u | getpid()), "number %x", number_of(bound).nl_pid);
	CHECK(get(bound, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM && fcntl(bound, F_GETFD) == FD_CLOEXEC, "type");
	note_groups(bound, after);
	CHECK(!memcmp(before, after, sizeof after), "groups %x %x", after[0], after[1]);
	CHECK(get(bound, SOL_NETLINK, NETLINK_PKTINFO) == 1 && get(bound, SOL_NETLINK, 11) == 1, "options of netlink");
	CHECK(get(bound, SOL_NETLINK, NETLINK_NO_ENOBUFS) == 0 && get(bound, SOL_SOCKET, SO_PASSCRED) == 1, "options");
	expect_answer(bound);
	CHECK(number_of(peer).nl_pid == peers.nl_pid, "number of the other");
	char words[8] = {0};
	struct nlmsghdr head = {.nlmsg_len = sizeof head};
	MUST(send(peer, &head, sizeof head, 0));
	CHECK(recv(events, &head, sizeof head, MSG_DONTWAIT) == sizeof head, "it is not connected");
	if (packets >= 0) {
		CHECK(get(packets, SOL_PACKET, PACKET_VERSION) == TPACKET_V2 && get(packets, SOL_PACKET, PACKET_RESERVE) == 16, "version");
		CHECK(get(packets, SOL_PACKET, PACKET_AUXDATA) == 1 && get(packets, SOL_PACKET, 20) == 1, "options of packets");
		CHECK(get(packets, SOL_PACKET, PACKET_FANOUT) == 0 && get(packets, SOL_PACKET, PACKET_ORIGDEV) == 0, "what was not set");
		MUST(setsockopt(packets, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &all, sizeof all));
		void *ring = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, packets, 0);
		CHECK(ring != MAP_FAILED, "there is no ring");
		struct sockaddr_ll now = place_of(shared);
		CHECK(!memcmp(&now, &place, sizeof now), "it is bound elsewhere");
		CHECK(get(shared, SOL_PACKET, PACKET_FANOUT) == fanout && get(shared, SOL_PACKET, PACKET_ORIGDEV) == 1, "fanout");
		MUST(setsockopt(shared, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &one, sizeof one));
		/* What is sent comes, as it does to all on this interface. */
		MUST(sendto(shared, "hello", 5, 0, (struct sockaddr *)&(struct sockaddr_ll){.sll_family = AF_PACKET,
			.sll_protocol = htons(0x88b5), .sll_ifindex = if_nametoindex("lo"), .sll_halen = 6}, sizeof place));
		CHECK(recv(shared, words, sizeof words, 0) >= 5 && !memcmp(words, "hello", 5), "a packet");
	}
	return victim_pass();
}
