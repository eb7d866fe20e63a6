/* Sends a stream of numbers to whoever connects, as much as the third argument says in MiB, each word by a rule; at the end it hears
 * from the other end whether all was right. Second argument: its address. */
#include "victim.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define WORDS 8192

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(7000)};
	CHECK(argc > 3 && inet_aton(argv[2], &name.sin_addr), "set-up: no address");
	uint64_t total = (uint64_t)atoi(argv[3]) << 20, sent = 0;
	int on = 1, listener = MUST(socket(AF_INET, SOCK_STREAM, 0));
	MUST(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	MUST(bind(listener, (struct sockaddr *)&name, sizeof name));
	MUST(listen(listener, 1));
	victim_ready();
	int client = MUST(accept(listener, NULL, NULL));
	static uint64_t words[WORDS];
	while (sent < total) {
		for (unsigned at = 0; at < WORDS; at++)
			words[at] = (sent / 8 + at) * 0x9e3779b97f4a7c15u;
		for (size_t done = 0; done < sizeof words;)
			done += MUST(write(client, (char *)words + done, sizeof words - done));
		sent += sizeof words;
	}
	char verdict = 0;
	CHECK(read(client, &verdict, 1) == 1 && verdict == 'y', "the other end says [%c]", verdict);
	victim_wait();
	return victim_pass();
}
