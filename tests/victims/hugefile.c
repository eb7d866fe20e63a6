/*
 * A file of huge pages in the folder of the second argument, mapped whole, in part and by a child. With `private` as
 * the third the whole is a mapping of its own; with `deleted` it is what is refused. Says so where there are no such pages.
 */
#include "victim.h"
#include "hugepages.h"
#include <sys/wait.h>

static unsigned char *whole, *part;

/* Fills the file; returns whether there are pages for that. */
static int in_file(int file, char what)
{
	unsigned char *at = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (at == MAP_FAILED)
		return 0;
	memset(at, what, 2 * HUGE);
	munmap(at, 2 * HUGE);
	return 1;
}

int main(int argc, char **argv)
{
	char path[400];
	struct stat is;
	victim_start(argc, argv);
	CHECK(argc > 2, "set-up: no folder");
	int is_private = argc > 3 && !strcmp(argv[3], "private");
	snprintf(path, sizeof path, "%s/file", argv[2]);
	int file = MUST(open(path, O_RDWR | O_CREAT | O_EXCL, 0600));
	MUST(ftruncate(file, 2 * HUGE));
	whole = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, is_private ? MAP_PRIVATE : MAP_SHARED, file, 0);
	part = mmap(NULL, HUGE, PROT_READ, MAP_SHARED, file, HUGE);
	if (whole == MAP_FAILED || part == MAP_FAILED || (is_private && !in_file(file, 'f'))) {
		victim_say("without: huge pages of a pool");
		munmap(whole, 2 * HUGE);
		close(file);
		victim_ready();
		victim_wait();
		return victim_pass();
	}
	/* Of a private mapping the first page stays the file's. */
	for (unsigned long at = is_private ? HUGE : 0; at < 2 * HUGE; at += 4096)
		whole[at] = at / 4096 * 7;
	if (argc > 3 && !strcmp(argv[3], "deleted"))
		MUST(unlink(path));
	pid_t pid = MUST(fork());
	if (!pid) {
		while (part[1] != 1)
			usleep(10000);
		whole[2] = 2;
		_exit(0);
	}
	victim_ready();
	victim_wait();
	for (unsigned long at = is_private ? HUGE : 0; at < 2 * HUGE; at += 4096)
		CHECK(whole[at] == (unsigned char)(at / 4096 * 7), "byte %lx", at);
	if (is_private) {
		CHECK(part[0] == 'f' && part[4096] == 'f' && whole[HUGE + 1] == 'f', "what is in the file");
		CHECK(whole[0] == 'f', "a page that is the file's");
	}
	CHECK(kernel_page_kib(whole) == 2048 && kernel_page_kib(part) == 2048, "pages of %d KiB", kernel_page_kib(whole));
	CHECK(fstat(file, &is) == 0 && is.st_size == 2 * (long)HUGE, "the descriptor");
	whole[HUGE + 1] = 1;
	CHECK(part[1] == (is_private ? 'f' : 1), "the other mapping");
	if (is_private)
		kill(pid, SIGKILL);
	int status;
	waitpid(pid, &status, 0);
	CHECK(is_private || (status == 0 && whole[2] == 2), "what the child writes");
	return victim_pass();
}
