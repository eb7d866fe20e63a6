/*
 * Threads that have a working directory, root and umask of their own (CLONE_FS), beside one that shares them with the first: one
 * elsewhere, one in a root of its own from which its working directory cannot be named.
 */
#include "victim.h"

enum { SHARING, ELSEWHERE, ROOTED, COUNT };

static char folder[300];
static pthread_barrier_t standing, asked;
static const mode_t MASKS[COUNT] = {027, 077, 011};

static void stand(int who)
{
	char root[400];
	if (who != SHARING)
		MUST(unshare(CLONE_FS));
	if (who == ELSEWHERE)
		MUST(chdir("/proc/sys"));
	if (who == ROOTED) {
		snprintf(root, sizeof root, "%s/root", folder);
		MUST(chdir("/usr"));
		MUST(chroot(root));
	}
	if (who != SHARING)
		umask(MASKS[who]);
}

static void look(int who)
{
	char link[64], seen[300] = {0}, wanted[400];
	mode_t mask = umask(0);
	umask(mask);
	CHECK(mask == MASKS[who], "thread %d has the mask %o", who, mask);
	if (who == ROOTED) {
		CHECK(access("/marker", F_OK) == 0, "the root of its own has no marker");
		CHECK(access("bin", F_OK) == 0, "its working directory is not /usr");
		CHECK(access("/usr", F_OK) == -1, "its root is that of the others");
		return;
	}
	CHECK(access("/marker", F_OK) == -1, "thread %d is in another's root", who);
	snprintf(link, sizeof link, "/proc/self/task/%d/cwd", gettid());
	CHECK(readlink(link, seen, sizeof seen - 1) > 0, "%s: %s", link, strerror(errno));
	snprintf(wanted, sizeof wanted, "%s", who == SHARING ? folder : "/proc/sys");
	CHECK(!strcmp(seen, wanted), "thread %d stands in %s", who, seen);
	CHECK(unshare(0) == 0 && chdir(who == SHARING ? "/" : "..") == 0, "it can go elsewhere");
	memset(seen, 0, sizeof seen);
	CHECK(readlink(link, seen, sizeof seen - 1) > 0 && (who == SHARING ? seen[1] == 0 : !strncmp(seen, "/proc", 5)), "it is not there");
}

static void *thread(void *who)
{
	stand((int)(intptr_t)who);
	pthread_barrier_wait(&standing);
	pthread_barrier_wait(&asked);
	look((int)(intptr_t)who);
	return NULL;
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	pthread_t threads[COUNT];
	char name[400];
	snprintf(folder, sizeof folder, "%s.stand", argv[1]);
	MUST(mkdir(folder, 0755));
	snprintf(name, sizeof name, "%s/root", folder);
	MUST(mkdir(name, 0755));
	strcat(name, "/marker");
	close(MUST(open(name, O_CREAT | O_WRONLY, 0600)));
	MUST(chdir(folder));
	umask(MASKS[SHARING]);
	pthread_barrier_init(&standing, NULL, COUNT + 1);
	pthread_barrier_init(&asked, NULL, COUNT + 1);
	for (intptr_t who = 0; who < COUNT; who++)
		CHECK(!pthread_create(&threads[who], NULL, thread, (void *)who), "set-up: pthread_create");
	pthread_barrier_wait(&standing);
	victim_ready();
	victim_wait();
	pthread_barrier_wait(&asked);
	for (int who = 0; who < COUNT; who++)
		pthread_join(threads[who], NULL);
	/* The one that shares it has gone to the root, and so have we. */
	char *own = getcwd(name, sizeof name);
	CHECK(own && !strcmp(own, "/"), "the first thread stands in %s", own);
	return victim_pass();
}
