/* inotify and fanotify: numbers and masks of watches, files that were renamed or deleted since, and what was to be told. With
 * "queued", events wait at the dump, of which the restored program has to be told that they are lost. */
#include "victim.h"
#include <poll.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

static char events[65536];

static int waiting(int fd)
{
	int bytes = -1;
	MUST(ioctl(fd, FIONREAD, &bytes));
	return bytes;
}

/* Returns whether the next events have these numbers and masks, and nothing else waits. */
static void told(int fd, int count, const int *wds, const unsigned *masks)
{
	long length = read(fd, events, sizeof events), at = 0;
	for (int nth = 0; nth < count; nth++) {
		struct inotify_event *event = (void *)(events + at);
		CHECK(at < length, "event %d did not come: %s", nth, strerror(errno));
		CHECK(event->wd == wds[nth] && event->mask == masks[nth], "event %d: watch %d, mask %x; wanted %d, %x", nth, event->wd, event->mask, wds[nth],
		      masks[nth]);
		at += sizeof *event + event->len;
	}
	CHECK(at == length || (!count && length == -1), "%ld bytes of events more than wanted, the first with mask %x", length - at,
	      ((struct inotify_event *)(events + at))->mask);
}

static void touch(const char *name)
{
	MUST(close(MUST(open(victim_beside(name), O_WRONLY | O_CREAT, 0600))));
}

/* A set of watches of which every number is remembered. */
static char shown[2][4000];
static void show(int fd, char *text)
{
	char name[40];
	snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
	int info = MUST(open(name, O_RDONLY));
	long length = MUST(read(info, text, 3999));
	text[length] = 0;
	/* Position and flags are another's subject, and the number of the mount the kernel's. */
	char *begin = strstr(text, "inotify ");
	if (!begin)
		begin = strstr(text, "fanotify flags");
	memmove(text, begin ? begin : "", begin ? strlen(begin) + 1 : 1);
	MUST(close(info));
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	int is_queued = argc > 2 && !strcmp(argv[2], "queued");
	MUST(mkdir(victim_beside("folder"), 0700));
	touch("file");
	touch("renamed");
	touch("deleted");
	touch("linked");
	int watcher = MUST(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	int empty = MUST(inotify_init1(0));
	int other = dup(watcher);
	/* Numbers with gaps. */
	for (int turn = 0; turn < 5; turn++)
		MUST(inotify_rm_watch(watcher, MUST(inotify_add_watch(watcher, victim_beside("file"), IN_ALL_EVENTS))));
	int folder = MUST(inotify_add_watch(watcher, victim_beside("folder"), IN_ALL_EVENTS | IN_EXCL_UNLINK));
	MUST(inotify_rm_watch(watcher, MUST(inotify_add_watch(watcher, victim_beside("file"), IN_ALL_EVENTS))));
	int file = MUST(inotify_add_watch(watcher, victim_beside("file"), IN_MODIFY | IN_ONESHOT));
	int renamed = MUST(inotify_add_watch(watcher, victim_beside("renamed"), IN_MODIFY));
	int deleted = MUST(inotify_add_watch(watcher, victim_beside("deleted"), IN_MODIFY | IN_OPEN));
	int linked = MUST(inotify_add_watch(watcher, victim_beside("linked"), IN_MODIFY));
	MUST(rename(victim_beside("renamed"), victim_beside("renamed-since")));
	int open_deleted = MUST(open(victim_beside("deleted"), O_RDWR));
	MUST(unlink(victim_beside("deleted")));
	MUST(link(victim_beside("linked"), victim_beside("linked-too")));
	int open_linked = MUST(open(victim_beside("linked"), O_RDWR));
	MUST(unlink(victim_beside("linked")));
	while (read(watcher, events, sizeof events) > 0)
		;
	int fan = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE, O_RDONLY | O_LARGEFILE);
	CHECK(fan >= 0 || errno == EPERM || errno == ENOSYS, "set-up: fanotify_init: %s", strerror(errno));
	if (fan >= 0) {
		MUST(fanotify_mark(fan, FAN_MARK_ADD, FAN_MODIFY | FAN_EVENT_ON_CHILD, -1, victim_beside("folder")));
		MUST(fanotify_mark(fan, FAN_MARK_ADD, FAN_MODIFY, -1, victim_beside("file")));
		MUST(fanotify_mark(fan, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_MODIFY, -1, victim_beside("file")));
		show(fan, shown[0]);
	}
	show(watcher, shown[1]);
	if (is_queued)
		touch("folder/queued");
	victim_ready();
	victim_wait();

	static char now[4000];
	if (is_queued)
		told(watcher, 1, (int[]){-1}, (unsigned[]){IN_Q_OVERFLOW});
	show(watcher, now);
	/* The deleted file is another inode: its line says so. */
	for (char *was = shown[1], *is = now; *was; was = strchr(was, '\n') + 1, is = strchr(is, '\n') + 1) {
		unsigned wd, mask, is_wd, is_mask;
		const char *form = "inotify wd:%x ino:%*x sdev:%*x mask:%x";
		CHECK(sscanf(was, form, &wd, &mask) == 2 && sscanf(is, form, &is_wd, &is_mask) == 2, "watches: %.200s, were %.200s", now, shown[1]);
		CHECK(wd == is_wd && mask == is_mask, "watch %x: mask %x, was %x, %x", is_wd, is_mask, wd, mask);
	}
	CHECK(waiting(watcher) == 0, "%d bytes of events that nobody caused", waiting(watcher));
	CHECK(fcntl(watcher, F_GETFD) == FD_CLOEXEC && fcntl(watcher, F_GETFL) == O_NONBLOCK && fcntl(empty, F_GETFL) == 0, "flags");
	touch("folder/new");
	told(other, 3, (int[]){folder, folder, folder}, (unsigned[]){IN_CREATE, IN_OPEN, IN_CLOSE_WRITE});
	int written = MUST(open(victim_beside("file"), O_WRONLY));
	for (int turn = 0; turn < 2; turn++)
		CHECK(write(written, "x", 1) == 1, "write");
	told(watcher, 2, (int[]){file, file}, (unsigned[]){IN_MODIFY, IN_IGNORED});
	int moved = MUST(open(victim_beside("renamed-since"), O_WRONLY));
	CHECK(write(moved, "x", 1) == 1 && write(open_deleted, "x", 1) == 1 && write(open_linked, "x", 1) == 1, "write");
	told(watcher, 3, (int[]){renamed, deleted, linked}, (unsigned[]){IN_MODIFY, IN_MODIFY, IN_MODIFY});
	int next = MUST(inotify_add_watch(watcher, victim_beside("file"), IN_OPEN));
	CHECK(next > linked, "the next watch is %d", next);
	MUST(inotify_rm_watch(watcher, folder));
	told(watcher, 1, (int[]){folder}, (unsigned[]){IN_IGNORED});
	CHECK(inotify_add_watch(empty, victim_beside("file"), IN_OPEN) == 1, "the first watch of another");
	if (fan >= 0) {
		show(fan, now);
		CHECK(!strcmp(now, shown[0]), "fanotify: %.150s, was %.150s", now, shown[0]);
		/* What was told since: nothing of the restore. The file's mark ignores what the writes above did. */
		CHECK(read(fan, events, sizeof events) == -1 && errno == EAGAIN, "fanotify tells what nobody did");
		int below = MUST(open(victim_beside("folder/new"), O_WRONLY));
		CHECK(write(below, "x", 1) == 1, "write");
		struct fanotify_event_metadata *event = (void *)events;
		CHECK(read(fan, events, sizeof events) == sizeof *event && event->mask == FAN_MODIFY && event->fd >= 0, "fanotify tells nothing: %s", strerror(errno));
		struct stat told_of, wanted;
		MUST(fstat(event->fd, &told_of));
		MUST(fstat(below, &wanted));
		CHECK(told_of.st_ino == wanted.st_ino, "fanotify tells of another file");
	}
	return victim_pass();
}
