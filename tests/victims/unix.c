/*
 * Unix sockets of every kind: with names in the file system, abstract and none; listening, with connections that wait;
 * connected across tasks; deleted names, names of a working directory; datagrams with their senders; what waits in them, with
 * descriptors and credentials.
 */
#include "victim.h"
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static struct sockaddr_un address;

static socklen_t path_address(const char *path)
{
	memset(&address, 0, sizeof address);
	address.sun_family = AF_UNIX;
	CHECK(strlen(path) < sizeof address.sun_path, "set-up: %s is too long", path);
	strcpy(address.sun_path, path);
	return offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
}

static socklen_t abstract_address(const char *name)
{
	memset(&address, 0, sizeof address);
	address.sun_family = AF_UNIX;
	int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "victim-%d-%s", getpid(), name);
	return offsetof(struct sockaddr_un, sun_path) + 1 + length;
}

static int bound(int kind, socklen_t length)
{
	int fd = MUST(socket(AF_UNIX, kind, 0));
	MUST(bind(fd, (struct sockaddr *)&address, length));
	return fd;
}

static int connected(int kind, socklen_t length)
{
	int fd = MUST(socket(AF_UNIX, kind, 0));
	MUST(connect(fd, (struct sockaddr *)&address, length));
	return fd;
}

static void expect(int fd, const char *wanted)
{
	char text[200];
	ssize_t got = recv(fd, text, sizeof text, MSG_DONTWAIT);
	CHECK(got == (ssize_t)strlen(wanted) && !memcmp(text, wanted, got), "descriptor %d: %zd bytes [%.*s], wanted [%s]: %s", fd, got,
	      got < 0 ? 0 : (int)got, text, wanted, strerror(errno));
}

static void expect_empty(int fd)
{
	char text[10];
	CHECK(recv(fd, text, sizeof text, MSG_DONTWAIT) == -1 && errno == EAGAIN, "descriptor %d holds more", fd);
}

static void expect_end(int fd)
{
	char text[10];
	ssize_t got = recv(fd, text, sizeof text, MSG_DONTWAIT);
	CHECK(got == 0, "descriptor %d: %zd, the end was wanted: %s", fd, got, strerror(errno));
}

static void talk(int one, int other)
{
	MUST(send(one, "to other", 8, MSG_NOSIGNAL));
	expect(other, "to other");
	MUST(send(other, "to one", 6, MSG_NOSIGNAL));
	expect(one, "to one");
}

typedef int naming(int, struct sockaddr *, socklen_t *);

static void expect_name(int fd, naming *ask, const void *wanted, socklen_t length)
{
	struct sockaddr_un now;
	socklen_t size = sizeof now;
	memset(&now, 0, sizeof now);
	CHECK(!ask(fd, (struct sockaddr *)&now, &size), "descriptor %d has no name: %s", fd, strerror(errno));
	CHECK(size == length && !memcmp(&now, wanted, length), "descriptor %d is called [%s] (%d bytes)", fd, now.sun_path + !now.sun_path[0], size);
}

static void give(int fd, const char *text, const int *fds, int count, int with_credentials)
{
	char control[CMSG_SPACE(sizeof(int) * 8) + CMSG_SPACE(sizeof(struct ucred))] = {0};
	struct iovec part = {(void *)text, strlen(text)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control};
	message.msg_controllen = (count ? CMSG_SPACE(sizeof(int) * count) : 0) + (with_credentials ? CMSG_SPACE(sizeof(struct ucred)) : 0);
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	if (count) {
		*header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int) * count)};
		memcpy(CMSG_DATA(header), fds, sizeof(int) * count);
		header = (struct cmsghdr *)((char *)header + CMSG_SPACE(sizeof(int) * count));
	}
	if (with_credentials) {
		struct ucred own = {.pid = getpid(), .uid = 1234, .gid = 4321};
		*header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_CREDENTIALS, .cmsg_len = CMSG_LEN(sizeof own)};
		memcpy(CMSG_DATA(header), &own, sizeof own);
	}
	MUST(sendmsg(fd, &message, 0));
}

/* Takes a message, and returns how many descriptors came with it. */
static int take(int fd, const char *wanted, int *fds, struct ucred *credentials)
{
	char text[100], control[400];
	struct iovec part = {text, sizeof text};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT);
	CHECK(got == (ssize_t)strlen(wanted) && !memcmp(text, wanted, got), "descriptor %d: message of %zd [%.*s], wanted [%s]", fd, got,
	      got < 0 ? 0 : (int)got, text, wanted);
	int count = 0;
	for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
		if (header->cmsg_type == SCM_RIGHTS) {
			count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(fds, CMSG_DATA(header), count * sizeof(int));
		} else if (header->cmsg_type == SCM_CREDENTIALS && credentials)
			memcpy(credentials, CMSG_DATA(header), sizeof *credentials);
	}
	return count;
}

static struct ucred peer_of(int fd)
{
	struct ucred told = {0};
	socklen_t size = sizeof told;
	CHECK(!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &told, &size), "SO_PEERCRED of %d: %s", fd, strerror(errno));
	return told;
}

static void same_peer(int fd, struct ucred was, const char *what)
{
	struct ucred now = peer_of(fd);
	CHECK(now.pid == was.pid && now.uid == was.uid && now.gid == was.gid, "%s tells of process %d, user %d, and was %d, %d", what, now.pid,
	      now.uid, was.pid, was.uid);
}

static void same_file(int one, int other, const char *what)
{
	CHECK(syscall(SYS_kcmp, getpid(), getpid(), 0, one, other) == 0, "%s is another description", what);
}

/* A child that connects, and answers what it is asked. */
static pid_t child_that_connects(socklen_t length)
{
	pid_t child = MUST(fork());
	if (child)
		return child;
	int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(setresgid(-1, 77, -1));
	MUST(setresuid(-1, 66, -1));
	MUST(connect(fd, (struct sockaddr *)&address, length));
	char word[4];
	while (recv(fd, word, 4, MSG_WAITALL) == 4)
		if (send(fd, memcmp(word, "ask?", 4) ? "what" : "yes!", 4, MSG_NOSIGNAL) != 4)
			_exit(1);
	_exit(7);
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	umask(0);
	/* Listening: connections that were accepted, two that wait, one of a child. */
	struct sockaddr_un served;
	socklen_t length = path_address(victim_beside("served"));
	served = address;
	int server = bound(SOCK_STREAM | SOCK_NONBLOCK, length);
	MUST(chmod(address.sun_path, 0646));
	MUST(chown(address.sun_path, 12, 34));
	MUST(listen(server, 5));
	int client = connected(SOCK_STREAM, length), accepted = MUST(accept(server, NULL, NULL));
	MUST(send(client, "asked", 5, 0));
	MUST(send(accepted, "answered", 8, 0));
	pid_t child = child_that_connects(length);
	int from_child;
	while ((from_child = accept(server, NULL, NULL)) == -1)
		usleep(1000);
	struct ucred peer = peer_of(from_child), own_peer = peer_of(client);
	CHECK(peer.pid == child && peer.uid == 66, "set-up: peer %d, user %d", peer.pid, peer.uid);
	int waiting = connected(SOCK_STREAM, length), waiting_too = connected(SOCK_STREAM, length);
	int backlog = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
	/* A server that has gone: what it accepted is still there. */
	socklen_t gone_length = abstract_address("gone");
	struct sockaddr_un gone = address;
	int left_server = bound(SOCK_SEQPACKET, gone_length);
	MUST(listen(left_server, 1));
	int gone_client = connected(SOCK_SEQPACKET, gone_length), gone_accepted = MUST(accept(left_server, NULL, NULL));
	MUST(close(left_server));
	MUST(send(gone_client, "one", 3, 0));
	MUST(send(gone_client, "", 0, 0));
	MUST(send(gone_client, "two", 3, 0));
	/* Names without files, and one that a plain file has taken over. */
	socklen_t lost_length = path_address(victim_beside("lost"));
	struct sockaddr_un lost = address;
	int deleted = bound(SOCK_DGRAM, lost_length), to_deleted = connected(SOCK_DGRAM, lost_length);
	MUST(unlink(lost.sun_path));
	int in_the_way = MUST(open(lost.sun_path, O_CREAT | O_WRONLY, 0600));
	MUST(write(in_the_way, "mine", 4));
	MUST(close(in_the_way));
	MUST(send(to_deleted, "to the deleted", 14, 0));
	/* A name of a working directory. */
	MUST(mkdir(victim_beside("folder"), 0700));
	char *start = getcwd(NULL, 0);
	MUST(chdir(victim_beside("folder")));
	socklen_t near_length = path_address("near");
	struct sockaddr_un near = address;
	int relative = bound(SOCK_DGRAM, near_length);
	MUST(chdir(start));
	/* Datagrams of several senders: one with a name, one without, one that is gone; and one that is connected back. */
	socklen_t hub_length = abstract_address("hub");
	struct sockaddr_un hub_name = address;
	int hub = bound(SOCK_DGRAM, hub_length);
	int nameless = connected(SOCK_DGRAM, hub_length);
	socklen_t named_length = abstract_address("named");
	struct sockaddr_un named_name = address;
	int named = bound(SOCK_DGRAM, named_length);
	socklen_t away_length = abstract_address("away");
	struct sockaddr_un away_name = address;
	int away = bound(SOCK_DGRAM, away_length);
	MUST(send(nameless, "of nobody", 9, 0));
	MUST(sendto(named, "of named", 8, 0, (struct sockaddr *)&hub_name, hub_length));
	MUST(sendto(away, "of away", 7, 0, (struct sockaddr *)&hub_name, hub_length));
	int to_away = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
	MUST(connect(to_away, (struct sockaddr *)&away_name, away_length));
	MUST(close(away));
	MUST(connect(hub, (struct sockaddr *)&named_name, named_length));
	/* By themselves. */
	int alone = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	int autobound = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
	address.sun_family = AF_UNIX;
	MUST(bind(autobound, (struct sockaddr *)&address, sizeof(sa_family_t)));
	struct sockaddr_un auto_name;
	socklen_t auto_length = sizeof auto_name;
	MUST(getsockname(autobound, (struct sockaddr *)&auto_name, &auto_length));
	/* The other end is closed: with words left, and with words unread. */
	int widow[2], reset[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, widow));
	MUST(send(widow[1], "last words", 10, 0));
	MUST(close(widow[1]));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, reset));
	MUST(send(reset[0], "unread", 6, 0));
	MUST(close(reset[1]));
	/* In flight: a file that is open here too, one that is nowhere else, a socket in which others wait, and in itself. */
	int rights[2], inner[2], packets[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, rights));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, inner));
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets));
	int here = MUST(open(victim_beside("here"), O_RDWR | O_CREAT, 0600));
	int only[2] = {MUST(open(victim_beside("there"), O_RDWR | O_CREAT | O_APPEND, 0600)), here};
	MUST(write(only[0], "content", 7));
	int pipes[2];
	MUST(pipe(pipes));
	MUST(write(pipes[1], "in the pipe", 11));
	give(rights[0], "before", NULL, 0, 0);
	give(rights[0], "file", only, 2, 0);
	give(rights[0], "after", NULL, 0, 0);
	give(inner[0], "pipe", pipes, 2, 0);
	give(rights[0], "socket", &inner[1], 1, 0);
	give(packets[0], "self", &packets[1], 1, 0);
	give(packets[0], "plain", NULL, 0, 0);
	MUST(close(only[0]));
	MUST(close(pipes[0]));
	MUST(close(pipes[1]));
	MUST(close(inner[1]));
	/* Credentials. */
	int told[2], on = 1;
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, told));
	MUST(setsockopt(told[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
	give(told[0], "who", NULL, 0, 1);
	/* In an epoll. */
	int epoll = MUST(epoll_create1(0));
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 99};
	MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, server, &event));
	MUST(fcntl(server, F_SETOWN, getpid()));

	victim_ready();
	victim_wait();

	expect_name(server, getsockname, &served, length);
	expect_name(accepted, getsockname, &served, length);
	expect_name(client, getpeername, &served, length);
	struct stat stat;
	CHECK(!lstat(served.sun_path, &stat) && S_ISSOCK(stat.st_mode), "its file is gone");
	CHECK((stat.st_mode & 07777) == 0646 && stat.st_uid == 12 && stat.st_gid == 34, "its file is %o, of %d", stat.st_mode, stat.st_uid);
	CHECK(fcntl(server, F_GETFL) & O_NONBLOCK, "it waits");
	CHECK(!(fcntl(client, F_GETFL) & O_NONBLOCK) && !(fcntl(accepted, F_GETFL) & O_NONBLOCK), "it does not wait");
	CHECK(fcntl(server, F_GETOWN) == getpid(), "its owner is %d", fcntl(server, F_GETOWN));
	expect(accepted, "asked");
	expect(client, "answered");
	talk(client, accepted);
	same_peer(from_child, peer, "the child's connection");
	same_peer(client, own_peer, "the connection of its own");
	MUST(send(from_child, "ask?", 4, MSG_NOSIGNAL));
	char answer[5] = {0};
	CHECK(recv(from_child, answer, 4, MSG_WAITALL) == 4 && !strcmp(answer, "yes!"), "the child answers [%s]", answer);
	CHECK(epoll_wait(epoll, &event, 1, 0) == 1 && event.data.u64 == 99, "the epoll is silent");
	int first = accept(server, NULL, NULL), second = accept(server, NULL, NULL);
	CHECK(first >= 0 && second >= 0, "those that waited are gone");
	talk(waiting, first);
	talk(waiting_too, second);
	CHECK(accept(server, NULL, NULL) == -1 && errno == EAGAIN, "there is one more");
	for (int number = 0; number < 6; number++) {
		int fd = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
		CHECK(!connect(fd, (struct sockaddr *)&served, length), "connection %d of 6: %s", number, strerror(errno));
	}
	CHECK(connect(backlog, (struct sockaddr *)&served, length) == -1 && errno == EAGAIN, "more may wait than before");

	expect_name(gone_accepted, getsockname, &gone, gone_length);
	expect_name(gone_client, getpeername, &gone, gone_length);
	expect(gone_accepted, "one");
	expect(gone_accepted, "");
	expect(gone_accepted, "two");
	talk(gone_client, gone_accepted);
	int again = MUST(socket(AF_UNIX, SOCK_SEQPACKET, 0));
	CHECK(!bind(again, (struct sockaddr *)&gone, gone_length), "its name is not free: %s", strerror(errno));

	expect_name(deleted, getsockname, &lost, lost_length);
	expect(deleted, "to the deleted");
	MUST(send(to_deleted, "again", 5, 0));
	expect(deleted, "again");
	in_the_way = open(lost.sun_path, O_RDONLY);
	CHECK(read(in_the_way, answer, 4) == 4 && !memcmp(answer, "mine", 4), "what has its name now has changed");
	expect_name(relative, getsockname, &near, near_length);
	path_address(victim_beside("folder/near"));
	CHECK(sendto(nameless, "x", 1, 0, (struct sockaddr *)&address, sizeof address) == 1, "folder/near: %s", strerror(errno));
	expect(relative, "x");

	struct sockaddr_un from;
	char text[20];
	socklen_t from_length = sizeof from;
	CHECK(recvfrom(hub, text, 20, MSG_DONTWAIT, (struct sockaddr *)&from, &from_length) == 9 && from_length <= sizeof(sa_family_t), "the first is of somebody");
	from_length = sizeof from;
	CHECK(recvfrom(hub, text, 20, MSG_DONTWAIT, (struct sockaddr *)&from, &from_length) == 8 && from_length == named_length &&
	      !memcmp(&from, &named_name, from_length), "the second is not of named");
	from_length = sizeof from;
	CHECK(recvfrom(hub, text, 20, MSG_DONTWAIT, (struct sockaddr *)&from, &from_length) == 7 && from_length == away_length &&
	      !memcmp(&from, &away_name, from_length), "the third is not of who is away");
	expect_name(hub, getpeername, &named_name, named_length);
	CHECK(send(nameless, "y", 1, 0) == -1 && errno == EPERM, "the hub hears others than what it is connected to");
	MUST(sendto(named, "hears", 5, 0, (struct sockaddr *)&hub_name, hub_length));
	expect(hub, "hears");
	expect_name(to_away, getpeername, &away_name, away_length);
	CHECK(send(to_away, "y", 1, 0) == -1 && errno == ECONNREFUSED, "who is away is there");
	CHECK(send(alone, "x", 1, MSG_NOSIGNAL) == -1 && errno == ENOTCONN, "alone is not: %s", strerror(errno));
	expect_name(autobound, getsockname, &auto_name, auto_length);

	expect(widow[0], "last words");
	expect_end(widow[0]);
	CHECK(send(widow[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "its other end lives");
	CHECK(recv(reset[0], text, 20, MSG_DONTWAIT) == -1 && errno == ECONNRESET, "it is not told of the reset: %s", strerror(errno));
	expect_end(reset[0]);

	int got[8];
	CHECK(take(rights[1], "beforefile", got, NULL) == 2, "two files were on the way");
	same_file(got[1], here, "the file that is open here");
	CHECK(fcntl(got[0], F_GETFL) & O_APPEND && lseek(got[0], 0, SEEK_CUR) == 7, "the file from the queue");
	CHECK(take(rights[1], "aftersocket", got, NULL) == 1, "a socket was on the way");
	CHECK(take(got[0], "pipe", got + 1, NULL) == 2, "a pipe was on the way in it");
	MUST(write(got[2], "!", 1));
	CHECK(read(got[1], text, 20) == 12 && !memcmp(text, "in the pipe!", 12), "the pipe");
	talk(got[0], inner[0]);
	CHECK(take(packets[1], "self", got, NULL) == 1, "it was on the way in itself");
	same_file(got[0], packets[1], "the socket in itself");
	expect(packets[1], "plain");
	struct ucred who = {0};
	take(told[1], "who", got, &who);
	CHECK(who.pid == getpid() && who.uid == 1234 && who.gid == 4321, "it is of process %d, user %d, group %d", who.pid, who.uid, who.gid);
	expect_empty(told[1]);

	MUST(close(from_child));
	int status;
	CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7, "the child is not told of the end: %x", status);
	return victim_pass();
}
