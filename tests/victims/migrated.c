/* Memory of which a known part is written each time that SIGUSR2 comes: of each page it is known who wrote it last. */
#include "victim.h"

#define PAGE 4096
#define PAGES 2048

static volatile sig_atomic_t told;

static void on_told(int number)
{
	(void)number;
	told = 1;
}

/* Each time fewer: a third, a fifth, a seventh. */
static int is_written(unsigned page, unsigned round)
{
	return page % (2 * round + 1) == 0;
}

static uint64_t word(unsigned page, unsigned round, unsigned at)
{
	return ((uint64_t)round << 32 | page) * 0x9e3779b97f4a7c15u + at;
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	uint64_t *all = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(all != MAP_FAILED, "set-up: mmap: %s", strerror(errno));
	/* A huge page would be written as a whole. */
	madvise(all, PAGES * PAGE, MADV_NOHUGEPAGE);
	struct sigaction action = {.sa_handler = on_told};
	MUST(sigaction(SIGUSR2, &action, NULL));
	sigset_t none, both;
	sigemptyset(&none);
	sigemptyset(&both);
	sigaddset(&both, SIGUSR1);
	sigaddset(&both, SIGUSR2);
	sigprocmask(SIG_BLOCK, &both, NULL);
	unsigned rounds = 0;
	for (told = 1; !victim_asked; sigsuspend(&none)) {
		if (!told)
			continue;
		told = 0;
		for (unsigned page = 0; page < PAGES; page++)
			for (unsigned at = 0; is_written(page, rounds) && at < PAGE / 8; at++)
				all[page * (PAGE / 8) + at] = word(page, rounds, at);
		if (rounds)
			victim_say("round %u", rounds);
		else
			victim_ready();
		rounds++;
	}
	for (unsigned page = 0; page < PAGES; page++) {
		unsigned last = rounds - 1;
		while (!is_written(page, last))
			last--;
		for (unsigned at = 0; at < PAGE / 8; at++)
			CHECK(all[page * (PAGE / 8) + at] == word(page, last, at), "page %u is not of round %u", page, last);
	}
	return victim_pass();
}
