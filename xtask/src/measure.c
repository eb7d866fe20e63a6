/*
 * measure RESULT COMMAND...: runs a command and writes its wall time (ns) and the most memory it had (KiB) to RESULT, for
 * `cargo xtask bench`. A small static program, as the kernel counts what a process had before it executed the command, too.
 */
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	uint64_t begin = now();
	pid_t child = fork();
	if (!child) {
		execv(argv[2], argv + 2);
		perror(argv[2]);
		_exit(127);
	}
	int status;
	struct rusage used;
	if (child < 0 || wait4(child, &status, 0, &used) != child)
		return 2;
	uint64_t took = now() - begin;
	FILE *result = fopen(argv[1], "w");
	if (!result || fprintf(result, "%lu %ld\n", took, used.ru_maxrss) < 0 || fclose(result))
		return 2;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
