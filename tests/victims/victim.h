/*
 * What every victim shares. A victim sets up one feature of a process, writes READY to the file named by its first
 * argument, and waits. SIGUSR1 asks it to look at itself from inside: it then writes PASS, or FAIL with a reason, and
 * ends. SIGUSR1 stays blocked in every thread but for the waits of the main one.
 */
#ifndef VICTIM_H
#define VICTIM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int victim_log = -1;
static const char *victim_path;
static volatile sig_atomic_t victim_asked;

static inline void victim_say(const char *format, ...)
{
	char line[600];
	va_list list;
	va_start(list, format);
	int length = vsnprintf(line, sizeof line - 1, format, list);
	va_end(list);
	if (length > (int)sizeof line - 2)
		length = sizeof line - 2;
	line[length] = '\n';
	if (write(victim_log, line, length + 1) != length + 1)
		_exit(3);
}

#define FAIL(...)                                      \
	do {                                           \
		char reason_[400];                     \
		snprintf(reason_, sizeof reason_, __VA_ARGS__); \
		victim_say("FAIL: %s", reason_);       \
		_exit(1);                              \
	} while (0)

#define CHECK(condition, ...)               \
	do {                                \
		if (!(condition))           \
			FAIL(__VA_ARGS__);  \
	} while (0)

/* A step of the set-up: it fails with the call's own words. */
#define MUST(call)                                                        \
	({                                                                \
		long result_ = (long)(call);                              \
		if (result_ == -1)                                        \
			FAIL("set-up: %s: %s", #call, strerror(errno));   \
		result_;                                                  \
	})

static inline double victim_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static inline void victim_on_ask(int number)
{
	(void)number;
	victim_asked = 1;
}

static inline void victim_start(int argc, char **argv)
{
	if (argc < 2)
		_exit(2);
	victim_path = argv[1];
	victim_log = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (victim_log < 0)
		_exit(2);
	sigset_t asks;
	sigemptyset(&asks);
	sigaddset(&asks, SIGUSR1);
	sigprocmask(SIG_BLOCK, &asks, NULL);
	struct sigaction action = {.sa_handler = victim_on_ask};
	sigaction(SIGUSR1, &action, NULL);
}

/* The name of a file beside the output. */
static inline const char *victim_beside(const char *name)
{
	static char paths[16][512];
	static int next;
	char *path = paths[next++ % 16];
	const char *slash = strrchr(victim_path, '/');
	int folder = slash ? (int)(slash - victim_path) : 1;
	snprintf(path, sizeof paths[0], "%.*s/%s", folder, slash ? victim_path : ".", name);
	return path;
}

static inline void victim_ready(void)
{
	victim_say("READY");
}

/* Returns once the harness asks; no other signal may end the wait unless it has a handler. */
static inline void victim_wait(void)
{
	sigset_t mask;
	sigprocmask(SIG_BLOCK, NULL, &mask);
	sigdelset(&mask, SIGUSR1);
	while (!victim_asked)
		sigsuspend(&mask);
}

static inline int victim_pass(void)
{
	victim_say("PASS");
	return 0;
}

#endif
