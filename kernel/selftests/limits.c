// SPDX-License-Identifier: GPL-2.0-only
/* Memory of profiles: charges to control groups, limits per user and in total, and release */
#define _GNU_SOURCE
#include <sys/mount.h>
#include <sys/stat.h>

#include "guest.h"

#define ALICE 65533
#define BOB   65534
#define GROUP "/tmp/cgroup/limits/"

/* Limit for the profiles of one user, in bytes */
static size_t share(void)
{
	return (size_t)sysconf(_SC_PHYS_PAGES) * PAGE / 512;
}

/* Limit for all profiles, in bytes */
static size_t total(void)
{
	return (size_t)sysconf(_SC_PHYS_PAGES) * PAGE / 128;
}

/* Returns the size of a range whose counters take `bytes`. */
static size_t counted_by(size_t bytes)
{
	return bytes / sizeof(struct page_profile_count) * PAGE;
}

/* Reserve address space without memory. */
static byte *reserve(size_t length)
{
	byte *memory =
		mmap(NULL, length, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		die("mmap");
	return memory;
}

/* Counters count towards the limit while they are mapped. */
static void mapped(void)
{
	size_t length = counted_by(total() / 8 * 5);
	byte *memory = reserve(length);
	int fd = page_profile_open(O_CLOEXEC);
	const volatile struct page_profile_count *counts;
	uint64_t offset = 0;

	if (fd < 0)
		die("page_profile_open");
	is(page_profile_add(fd, (void *)memory, length, &offset), 0,
	   "total: add a range that uses most of the limit");
	counts = page_profile_map(fd, offset, length);
	if (!counts)
		die("page_profile_map");
	is(page_profile_remove(fd, (void *)memory, length), 0,
	   "total: remove the range, with its counters mapped");
	fails(page_profile_add(fd, (void *)memory, length, NULL), ENOSPC,
	      "total: mapped counters still count");
	page_profile_unmap(counts, length);
	is(page_profile_add(fd, (void *)memory, length, NULL), 0,
	   "total: unmapped counters are released");
	close(fd);
	munmap((void *)memory, length);
}

/* Add ranges up to the user's limit. Returns the bytes of their counters. */
static size_t fill(int fd, byte *memory)
{
	size_t each = share() / 16, added = 0;

	while (added < 2 * share() &&
	       !page_profile_add(fd, (void *)(memory + counted_by(added)), counted_by(each), NULL))
		added += each;
	return added;
}

static void use_up(void *pipes)
{
	byte *memory = reserve(counted_by(3 * share()));
	int *ends = pipes, fd, other;
	size_t taken;
	char word;

	become(ALICE);
	fd = page_profile_open(0);
	other = page_profile_open(0);
	taken = fill(fd, memory);
	fails(-1, ENOSPC, "user: the limit is enforced");
	ok(taken <= share() && taken >= share() / 4 * 3,
	   "user: the limit is the user's share (%zu of %zu bytes)", taken, share());
	page_profile_clear(fd);
	is((long long)fill(other, memory), (long long)taken, "user: clear releases the memory");
	close(fd);
	/* Wait until the other users are done */
	if (write(ends[1], "", 1) != 1 || read(ends[2], &word, 1) != 0)
		die("pipe");
	_exit(0);
}

static void as_bob(void *unused)
{
	byte *memory = pages(1);
	struct profile p;

	become(BOB);
	p = profile(PAGE_PROFILE_WINDOW, 4, memory, 1);
	(void)*memory;
	is(p.counts[0].reads, 1, "user: other users are not affected");
	finish(&p);
}

/* A user's profiles do not exhaust the memory of other users. */
static void users(void)
{
	byte *memory = pages(1);
	int ends[4], status;
	struct profile p;
	pid_t alice;
	char word;

	if (pipe(ends) || pipe(ends + 2))
		die("pipe");
	fflush(stdout);
	alice = fork();
	if (alice == 0) {
		close(ends[3]);
		use_up(ends);
	}
	if (read(ends[0], &word, 1) != 1)
		die("read");
	is(in_child(as_bob, NULL), 0, "user: the other user's child succeeded");
	p = profile(PAGE_PROFILE_EPOCH, 0, memory, 1);
	ok(true, "user: root is not affected");
	finish(&p);
	close(ends[3]);
	waitpid(alice, &status, 0);
	is(status, 0, "user: the child succeeded");
	close(ends[0]);
	close(ends[1]);
	close(ends[2]);
	munmap((void *)memory, PAGE);
}

/*
 * Start a profile, in window mode, of a new process that sleeps. Returns its descriptor, or -1 if
 * the limit is reached.
 */
static int sleeper(byte *memory, pid_t *child)
{
	int fd = page_profile_open(O_CLOEXEC);

	*child = fork();
	if (*child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(1);
	}
	if (page_profile_target(fd, *child) || page_profile_configure(fd, PAGE_PROFILE_WINDOW, 64))
		die("page_profile");
	/* The last bytes may be too few for the windows, or even for the counters. */
	if (page_profile_add(fd, (void *)memory, PAGE, NULL) || page_profile_start(fd)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void end(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

/* Windows are released when the process exits, although descriptors and counters stay. */
static void left_over(void *unused)
{
	enum { MOST = 600 };
	static int fds[MOST];
	static pid_t children[MOST];
	byte *memory = pages(1);
	int n = 0, more = 0;

	become(BOB);
	while (n < MOST && (fds[n] = sleeper(memory, &children[n])) >= 0)
		n++;
	fails(-1, ENOSPC, "exited: windows count towards the limit");
	ok(n > 10 && n < MOST, "exited: %d processes could be profiled", n);
	end(children[n]);
	for (int i = 0; i < n; i++)
		end(children[i]);
	while (more < n / 2 && sleeper(memory, &children[more]) >= 0)
		more++;
	is(more, n / 2, "exited: their windows are released, with descriptors open");
	fails(page_profile_rearm(fds[0]), ESRCH, "exited: re-arm fails");
	is(page_profile_stats(fds[0], &(struct page_profile_stats){0}), 0,
	   "exited: statistics succeed");
	for (int i = 0; i < more; i++)
		end(children[i]);
}

/* Returns the kernel memory charged to the control group, in bytes, or -1. */
static long usage(void)
{
	FILE *f = fopen(GROUP "memory.kmem.usage_in_bytes", "re");
	long bytes = -1;

	if (f && fscanf(f, "%ld", &bytes) != 1)
		bytes = -1;
	if (f)
		fclose(f);
	return bytes;
}

static void charged(void *unused)
{
	long bytes = (long)share() / 2, before, with, running, after;
	byte *memory, *small = pages(1);
	int fd;

	mkdir("/tmp/cgroup", 0700);
	if ((mount("none", "/tmp/cgroup", "cgroup", 0, "memory") && errno != EBUSY) ||
	    (mkdir(GROUP, 0700) && errno != EEXIST) || !put(GROUP "cgroup.procs", "0")) {
		skip("group", "no memory control group");
		return;
	}
	memory = reserve(counted_by((size_t)bytes));
	fd = page_profile_open(O_CLOEXEC);
	before = usage();
	page_profile_add(fd, (void *)memory, counted_by((size_t)bytes), NULL);
	with = usage();
	ok(with - before >= bytes, "group: %ld bytes of counters are charged (%ld)", bytes,
	   with - before);
	page_profile_add(fd, (void *)small, PAGE, NULL);
	page_profile_configure(fd, PAGE_PROFILE_WINDOW, 64);
	before = usage();
	page_profile_start(fd);
	running = usage();
	ok(running - before >= 64 * 1024, "group: windows are charged (%ld)", running - before);
	close(fd);
	after = usage();
	ok(running - after >= bytes, "group: close uncharges everything (%ld)", running - after);
}

int main(void)
{
	mapped();
	users();
	is(in_child(left_over, NULL), 0, "exited: the child succeeded");
	is(in_child(charged, NULL), 0, "group: the child succeeded");
	return done();
}
