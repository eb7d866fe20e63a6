/*
 * Descriptors of /dev/net/tun: of no device; of a TAP device with three queues, of which one is detached; of a TUN device, through
 * which packets go. With "packet" a packet waits in that one; with "goes" it goes with its descriptor. The devices are called by the
 * second argument, and end with the check.
 */
#include "victim.h"
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

static const char *prefix;
static int any, plain, queues[3];

static struct ifreq request(char kind, int flags)
{
	struct ifreq request = {.ifr_flags = flags};
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s%c", prefix, kind);
	return request;
}

static int opened(char kind, int flags, int how)
{
	struct ifreq wanted = request(kind, flags);
	int fd = MUST(open("/dev/net/tun", O_RDWR | how));
	MUST(ioctl(fd, TUNSETIFF, &wanted));
	return fd;
}

static long received(void)
{
	char path[100], text[40] = {0};
	snprintf(path, sizeof path, "/sys/class/net/%sn/statistics/rx_packets", prefix);
	int fd = MUST(open(path, O_RDONLY));
	MUST(read(fd, text, sizeof text - 1));
	close(fd);
	return atol(text);
}

static void expect_attached(int fd, char kind, int flags)
{
	struct ifreq is, wanted = request(kind, flags);
	CHECK(!ioctl(fd, TUNGETIFF, &is), "%d has no device: %s", fd, strerror(errno));
	CHECK(!strcmp(is.ifr_name, wanted.ifr_name), "%d is of %s, was of %s", fd, is.ifr_name, wanted.ifr_name);
	/* That there is no filter has the number of another flag, IFF_NO_PI. */
	flags |= IFF_PERSIST | IFF_NOFILTER;
	CHECK(is.ifr_flags == (short)flags, "%d has flags %#hx, had %#x", fd, is.ifr_flags, flags);
}

static void expect_number(int fd, unsigned long question, int wanted, const char *name)
{
	int is = -1;
	CHECK(!ioctl(fd, question, &is) && is == wanted, "%s of %d is %d, was %d", name, fd, is, wanted);
}

static void expect_none(int fd)
{
	struct ifreq is;
	CHECK(ioctl(fd, TUNGETIFF, &is) < 0 && errno == EBADFD, "%d has a device", fd);
}

int main(int argc, char **argv)
{
	const int of_queues = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE | IFF_VNET_HDR, of_plain = IFF_TUN;
	struct ifreq attach = {.ifr_flags = IFF_ATTACH_QUEUE}, detach = {.ifr_flags = IFF_DETACH_QUEUE};
	int header = 12, buffer = 100000;
	victim_start(argc, argv);
	prefix = argv[2];
	const char *kind = argc > 3 ? argv[3] : "";
	plain = opened('n', of_plain, 0);
	struct ifreq up = request('n', IFF_UP);
	int any_socket = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	MUST(ioctl(any_socket, SIOCSIFFLAGS, &up));
	close(any_socket);
	if (strcmp(kind, "goes"))
		MUST(ioctl(plain, TUNSETPERSIST, 1));
	if (!strcmp(kind, "packet")) {
		struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = 8, .sll_ifindex = if_nametoindex(up.ifr_name)};
		int packets = MUST(socket(AF_PACKET, SOCK_RAW, 0));
		MUST(sendto(packets, "\x45packet of nothing", 20, 0, (void *)&to, sizeof to));
		MUST(poll(&(struct pollfd){plain, POLLIN}, 1, 10000));
		close(packets);
	}
	for (int i = 0; i < 3; i++)
		queues[i] = opened('p', of_queues, i == 1 ? O_NONBLOCK : 0);
	MUST(ioctl(queues[0], TUNSETPERSIST, 1));
	MUST(ioctl(queues[0], TUNSETVNETHDRSZ, &header));
	MUST(ioctl(queues[0], TUNSETSNDBUF, &buffer));
	MUST(ioctl(queues[2], TUNSETQUEUE, &detach));
	any = MUST(open("/dev/net/tun", O_RDWR | O_NONBLOCK));
	pid_t child = MUST(fork());
	if (!child)
		for (;;)
			pause();
	victim_ready();
	victim_wait();

	expect_none(any);
	CHECK(fcntl(any, F_GETFL) & O_NONBLOCK, "flags of the one of no device");
	CHECK(ioctl(any, TUNSETQUEUE, &attach) < 0 && errno == EINVAL, "the one of no device is a queue");
	for (int i = 0; i < 2; i++) {
		expect_attached(queues[i], 'p', of_queues);
		expect_number(queues[i], TUNGETVNETHDRSZ, header, "the head");
		expect_number(queues[i], TUNGETSNDBUF, buffer, "the buffer");
	}
	CHECK(fcntl(queues[1], F_GETFL) & O_NONBLOCK, "flags of a queue");
	expect_attached(queues[2], 'p', of_queues | IFF_DETACH_QUEUE);
	CHECK(!ioctl(queues[2], TUNSETQUEUE, &attach), "one that is detached is no queue: %s", strerror(errno));
	expect_attached(queues[2], 'p', of_queues);
	if (strcmp(kind, "goes")) {
		expect_attached(plain, 'n', of_plain);
		char packet[24] = {0, 0, 8, 0, 0x45};
		long before = received();
		CHECK(write(plain, packet, sizeof packet) == sizeof packet, "a packet is not taken: %s", strerror(errno));
		CHECK(received() == before + 1, "a packet has not come");
		MUST(ioctl(plain, TUNSETPERSIST, 0));
	}
	MUST(ioctl(queues[0], TUNSETPERSIST, 0));
	MUST(kill(child, SIGKILL));
	MUST(waitpid(child, NULL, 0));
	return victim_pass();
}
