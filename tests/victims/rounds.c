/*
 * Memory that never rests: areas that are written, discarded, freed, unmapped, moved, protected, and shared with children that
 * live for a moment; a child that does the same; shared memory and a memfd that are written by mapping and by write(2). Of every
 * page it is known what it has to hold.
 */
#include "victim.h"
#include <sys/wait.h>

#define PAGE 4096
#define AREA 512 /* pages: 2 MiB, so that page tables are moved whole */
#define SLOTS 12
#define SHARED 64
#define FILE_SEED 0x10000000u

struct slot {
	char *at;
	int is_file, is_gone;
	unsigned seq[AREA]; /* 0: as it was made */
	unsigned char id[AREA]; /* the slot that it was stamped in */
};

/* The last two lie apart, and are never mapped anew. */
static struct slot slots[SLOTS + 2];
static char *between;
static char *shared, *memfd_at;
static int memfd, file;
static unsigned *shared_seq; /* lies in what is known to be kept */
static unsigned sequence;
static unsigned long state;
static char *heap;
static unsigned heap_pages, heap_seq[256];

static unsigned roll(unsigned below)
{
	state = state * 6364136223846793005ul + 1442695040888963407ul;
	return (state >> 33) % below;
}

static void stamp(char *page, unsigned id, unsigned seq)
{
	unsigned words[4] = {id, seq, ~seq, id ^ seq};
	memcpy(page + (seq % 200) * 16, words, sizeof words);
	memcpy(page, &seq, sizeof seq);
}

static int is_stamped(const char *page, unsigned id, unsigned seq)
{
	unsigned words[4] = {id, seq, ~seq, id ^ seq}, first;
	memcpy(&first, page, sizeof first);
	return first == seq && (seq % 200 == 0 || !memcmp(page + (seq % 200) * 16, words, sizeof words));
}

static void stamp_own(struct slot *slot, int page)
{
	slot->id[page] = slot - slots;
	stamp(slot->at + page * PAGE, slot->id[page], slot->seq[page] = ++sequence);
}

static int is_as_made(const struct slot *slot, int page)
{
	const char *at = slot->at + page * PAGE;
	unsigned first;
	memcpy(&first, at, sizeof first);
	if (slot->is_file)
		return first == FILE_SEED + page;
	for (int byte = 0; byte < PAGE; byte++)
		if (at[byte])
			return 0;
	return 1;
}

static void map(struct slot *slot)
{
	int flags = MAP_PRIVATE | MAP_FIXED | (slot->is_file ? 0 : MAP_ANONYMOUS);
	void *at = mmap(slot->at, AREA * PAGE, PROT_READ | PROT_WRITE, flags, slot->is_file ? file : -1, 0);
	CHECK(at == slot->at, "mmap: %s", strerror(errno));
	memset(slot->seq, 0, sizeof slot->seq);
}

static void discard(struct slot *slot, int page, int pages)
{
	if (page + pages > AREA)
		pages = AREA - page;
	CHECK(!madvise(slot->at + page * PAGE, pages * PAGE, MADV_DONTNEED), "MADV_DONTNEED: %s", strerror(errno));
	memset(&slot->seq[page], 0, pages * sizeof slot->seq[0]);
}

/* Moves an area to the place of another, or of itself by way of a third: what was there before must not come back. */
static void move(struct slot *from, struct slot *to)
{
	if (from == to || from->is_file != to->is_file)
		return;
	void *at = mremap(from->at, AREA * PAGE, AREA * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to->at);
	if (at == MAP_FAILED) {
		/* Of a tracked and an untracked part: the kernel moves no two areas at once. The target is unmapped by then. */
		CHECK(errno == EFAULT, "mremap: %s", strerror(errno));
		map(to);
		return;
	}
	/* Its pages are not written: they are other ones than before all the same. */
	memcpy(to->seq, from->seq, sizeof to->seq);
	memcpy(to->id, from->id, sizeof to->id);
	map(from);
}

static void move_away_and_back(struct slot *slot)
{
	char *aside = mmap(NULL, 2 * AREA * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(aside != MAP_FAILED, "mmap: %s", strerror(errno));
	char *there = (char *)(((uintptr_t)aside + AREA * PAGE - 1) & ~(uintptr_t)(AREA * PAGE - 1));
	void *at = mremap(slot->at, AREA * PAGE, AREA * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, there);
	if (at != MAP_FAILED) {
		map(slot);
		/* The one that was moved comes back as it is, over one that was made since. */
		static unsigned seq[AREA];
		for (int page = 0; page < AREA; page++) {
			unsigned words[4];
			memcpy(&seq[page], there + page * PAGE, sizeof seq[page]);
			memcpy(words, there + page * PAGE + (seq[page] % 200) * 16, sizeof words);
			if (slot->is_file ? seq[page] == FILE_SEED + page : !seq[page])
				seq[page] = 0;
		}
		CHECK(mremap(there, AREA * PAGE, AREA * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, slot->at) == slot->at,
		      "mremap: %s", strerror(errno));
		memcpy(slot->seq, seq, sizeof seq);
	} else {
		CHECK(errno == EFAULT, "mremap: %s", strerror(errno));
	}
	munmap(aside, 2 * AREA * PAGE);
}

static int status_of(pid_t child)
{
	int status;
	while (waitpid(child, &status, 0) != child)
		CHECK(errno == EINTR, "waitpid: %s", strerror(errno));
	return status;
}

/* Exchanges two areas by moving page tables. Nothing is written. */
static void exchange(struct slot *one, struct slot *other)
{
	int how = MREMAP_MAYMOVE | MREMAP_FIXED;
	struct slot before = *one;
	CHECK(mremap(one->at, AREA * PAGE, AREA * PAGE, how, between) == between &&
		      mremap(other->at, AREA * PAGE, AREA * PAGE, how, one->at) == one->at &&
		      mremap(between, AREA * PAGE, AREA * PAGE, how, other->at) == other->at,
	      "mremap: %s", strerror(errno));
	memcpy(one->seq, other->seq, sizeof one->seq);
	memcpy(one->id, other->id, sizeof one->id);
	memcpy(other->seq, before.seq, sizeof other->seq);
	memcpy(other->id, before.id, sizeof other->id);
	CHECK(mmap(between, AREA * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == between, "mmap: %s",
	      strerror(errno));
}

static void child_for_a_moment(struct slot *slot, int page)
{
	pid_t child = fork();
	CHECK(child >= 0, "fork: %s", strerror(errno));
	if (!child) {
		/* Its own from now on. */
		memset(slot->at + page * PAGE, 0x5a, PAGE);
		usleep(roll(3000));
		_exit(0);
	}
	stamp_own(slot, page);
	status_of(child);
}

static void grow_or_shrink(void)
{
	unsigned pages = roll(256);
	CHECK(!brk(heap + pages * PAGE), "brk: %s", strerror(errno));
	for (unsigned page = heap_pages; page < pages; page++)
		heap_seq[page] = 0;
	heap_pages = pages;
}

static void write_shared(void)
{
	unsigned page = roll(SHARED);
	stamp(shared + page * PAGE, 1000, shared_seq[page] = ++sequence);
	page = roll(SHARED);
	char bytes[PAGE];
	memset(bytes, 0, sizeof bytes);
	stamp(bytes, 2000, shared_seq[SHARED + page] = ++sequence);
	if (roll(2))
		memcpy(memfd_at + page * PAGE, bytes, PAGE);
	else
		CHECK(pwrite(memfd, bytes, PAGE, page * PAGE) == PAGE, "pwrite: %s", strerror(errno));
}

static void step(int has_shared)
{
	struct slot *slot = &slots[roll(SLOTS)];
	int page = roll(AREA);
	char *at = slot->at + page * PAGE;
	volatile char *look = at;
	switch (roll(64)) {
	case 0:
		discard(slot, page, roll(64) + 1);
		/* Read, it shows the zero page, or the file again. */
		(void)*look;
		break;
	case 1:
		discard(slot, 0, AREA);
		break;
	case 2:
		munmap(slot->at, AREA * PAGE);
		map(slot);
		break;
	case 3:
		move(slot, &slots[roll(SLOTS)]);
		break;
	case 4:
		move_away_and_back(slot);
		break;
	case 5:
		mprotect(at, PAGE, PROT_READ);
		(void)*look;
		mprotect(at, PAGE, PROT_READ | PROT_WRITE);
		break;
	case 6:
		child_for_a_moment(slot, page);
		break;
	case 7:
		grow_or_shrink();
		break;
	case 8:
		if (!slot->is_file) {
			madvise(at, PAGE, MADV_FREE);
			memset(at, 0, PAGE);
			stamp_own(slot, page);
		}
		break;
	case 9: {
		/* Written by the kernel. */
		unsigned seq = ++sequence;
		char bytes[PAGE];
		memset(bytes, 0, sizeof bytes);
		stamp(bytes, slot - slots, seq);
		int ends[2];
		CHECK(!pipe(ends) && write(ends[1], bytes, PAGE) == PAGE && read(ends[0], at, PAGE) == PAGE, "pipe: %s",
		      strerror(errno));
		close(ends[0]);
		close(ends[1]);
		slot->seq[page] = seq;
		slot->id[page] = slot - slots;
		break;
	}
	case 10:
		if (heap_pages) {
			unsigned which = roll(heap_pages);
			stamp(heap + which * PAGE, 3000, heap_seq[which] = ++sequence);
		}
		break;
	case 11:
		if (has_shared)
			write_shared();
		break;
	case 12:
		madvise(slot->at, AREA * PAGE, roll(2) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
		break;
	case 13:
		(void)*look;
		break;
	case 14:
		if (!roll(200))
			exchange(&slots[SLOTS], &slots[SLOTS + 1]);
		break;
	case 15:
		stamp_own(&slots[SLOTS + roll(2)], roll(AREA));
		break;
	default:
		stamp_own(slot, page);
	}
}

static void check(int has_shared)
{
	for (int index = 0; index < SLOTS + 2; index++)
		for (int page = 0; page < AREA; page++) {
			const struct slot *slot = &slots[index];
			const char *at = slot->at + page * PAGE;
			unsigned first;
			memcpy(&first, at, sizeof first);
			CHECK(slot->seq[page] ? is_stamped(at, slot->id[page], slot->seq[page]) : is_as_made(slot, page),
			      "slot %d at %p page %d holds %u, not %u", index, slot->at, page, first, slot->seq[page]);
		}
	for (unsigned page = 0; page < heap_pages; page++)
		CHECK(heap_seq[page] ? is_stamped(heap + page * PAGE, 3000, heap_seq[page]) : !heap[page * PAGE],
		      "heap page %u", page);
	for (unsigned page = 0; has_shared && page < SHARED; page++) {
		CHECK(!shared_seq[page] || is_stamped(shared + page * PAGE, 1000, shared_seq[page]), "shared page %u", page);
		unsigned seq = shared_seq[SHARED + page];
		CHECK(!seq || is_stamped(memfd_at + page * PAGE, 2000, seq), "memfd page %u", page);
	}
}

static void set_up(void)
{
	file = MUST(open(victim_beside("content"), O_RDWR | O_CREAT, 0600));
	for (unsigned page = 0; page < AREA; page++) {
		char bytes[PAGE] = {0};
		unsigned first = FILE_SEED + page;
		memcpy(bytes, &first, sizeof first);
		MUST(write(file, bytes, PAGE));
	}
	char *all = mmap(NULL, (SLOTS + 8) * AREA * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(all != MAP_FAILED, "set-up: mmap: %s", strerror(errno));
	char *first = (char *)(((uintptr_t)all + AREA * PAGE - 1) & ~(uintptr_t)(AREA * PAGE - 1));
	for (int index = 0; index < SLOTS; index++) {
		slots[index].at = first + index * AREA * PAGE;
		slots[index].is_file = index >= SLOTS - 3;
		map(&slots[index]);
	}
	shared = mmap(NULL, SHARED * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memfd = MUST(memfd_create("rounds", 0));
	MUST(ftruncate(memfd, SHARED * PAGE));
	memfd_at = mmap(NULL, SHARED * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	CHECK(shared != MAP_FAILED && memfd_at != MAP_FAILED, "set-up: mmap: %s", strerror(errno));
	shared_seq = calloc(2 * SHARED, sizeof *shared_seq);
	heap = (char *)(((uintptr_t)sbrk(0) + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
	MUST(brk(heap));
	between = first + (SLOTS + 5) * AREA * PAGE;
	for (int index = SLOTS; index < SLOTS + 2; index++) {
		slots[index].at = first + (SLOTS + 1 + 2 * (index - SLOTS)) * AREA * PAGE;
		map(&slots[index]);
		madvise(slots[index].at, AREA * PAGE, MADV_NOHUGEPAGE);
	}
	for (int index = 0; index < SLOTS + 2; index++)
		for (int page = 0; page < AREA; page += 2)
			stamp_own(&slots[index], page);
}

int main(int argc, char **argv)
{
	victim_start(argc, argv);
	state = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
	set_up();
	pid_t child = MUST(fork());
	int is_child = !child;
	state += is_child;
	sigset_t asks;
	sigemptyset(&asks);
	sigaddset(&asks, SIGUSR1);
	if (!is_child)
		victim_ready();
	sigprocmask(SIG_UNBLOCK, &asks, NULL);
	for (unsigned long count = 0; !victim_asked; count++) {
		step(!is_child);
		/* Where there is one processor for all, the dump gets its turn. */
		if (count % 512 == 0)
			usleep(200);
	}
	check(!is_child);
	if (is_child)
		return 0;
	kill(child, SIGUSR1);
	int status = status_of(child);
	CHECK(status == 0, "the child ended with %#x", status);
	return victim_pass();
}
