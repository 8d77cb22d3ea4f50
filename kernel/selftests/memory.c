// SPDX-License-Identifier: GPL-2.0-only
/*
 * Changes of mappings with profiled pages: pages are counted as before, entries stay marked, and
 * data are intact.
 */
#define _GNU_SOURCE

#include "guest.h"

#ifndef MADV_FREE
#define MADV_FREE 8
#endif
#define N    32UL
#define HUGE (2UL << 20)

static void touch_all(void *argument)
{
	struct profile *p = argument;

	if (!intact(p->memory, p->pages))
		_exit(1);
	write_each(p->memory, p->pages);
	for (size_t i = 0; i < p->pages; i++)
		memset((void *)(p->memory + i * PAGE), 0xee, PAGE);
}

static void copy_on_write(void)
{
	byte *memory = pages(N);
	struct profile p = profile(PAGE_PROFILE_WINDOW, 1, memory, N);

	is(in_child(touch_all, &p), 0, "fork: a child reads and writes its copy");
	all_have(&p, 0, 0, "fork: the child's accesses do not count");
	still_counts(&p, 1, 0, "fork");
	for (size_t i = 0; i < N; i++)
		memory[i * PAGE + 64] = (unsigned char)(i + 1);
	ok(having(&p, 2, 1) == N, "copy on write: a write counts once (%u, %u)", p.counts[0].reads,
	   p.counts[0].writes);
	adds_up(&p, "copy on write");
	finish(&p);
	munmap((void *)memory, N * PAGE);
}

static void protection(void)
{
	byte *memory = pages(N);
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);

	mprotect((void *)memory, N * PAGE, PROT_READ);
	still_counts(&p, 1, 0, "mprotect read-only");
	mprotect((void *)memory, N * PAGE, PROT_NONE);
	mprotect((void *)memory, N * PAGE, PROT_READ | PROT_WRITE);
	still_counts(&p, 2, 0, "mprotect none and back");
	read_each(memory, N);
	mprotect((void *)memory, N * PAGE, PROT_READ);
	mprotect((void *)memory, N * PAGE, PROT_READ | PROT_WRITE);
	read_each(memory, N);
	all_have(&p, 3, 0, "mprotect: open pages stay open");
	is((long long)stats(&p).uncounted, 0, "mprotect: open pages do not fault again");
	mprotect((void *)(memory + 8 * PAGE), 8 * PAGE, PROT_READ);
	page_profile_rearm(p.fd);
	still_counts(&p, 4, 0, "mprotect in the middle");
	adds_up(&p, "mprotect");
	finish(&p);
	munmap((void *)memory, N * PAGE);
}

static void remapping(void)
{
	byte *memory = pages(N), *place = pages(2 * N), *moved;
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);
	uint64_t offset;

	read_each(memory, N);
	moved = mremap((void *)memory, N * PAGE, N * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
	ok(moved == place, "mremap: moves a profiled mapping");
	page_profile_rearm(p.fd);
	ok(intact(moved, N), "mremap: data are intact");
	all_have(&p, 1, 0, "mremap: accesses outside the range do not count");
	is(page_profile_remove(p.fd, (void *)memory, N * PAGE), 0,
	   "mremap: the old range can be removed");
	is(page_profile_add(p.fd, (void *)moved, N * PAGE, &offset), 0,
	   "mremap: the new place can be added");
	page_profile_unmap(p.counts, N * PAGE);
	p.memory = moved;
	p.counts = page_profile_map(p.fd, offset, N * PAGE);
	still_counts(&p, 1, 0, "mremap");
	moved = mremap((void *)moved, N * PAGE, 2 * N * PAGE, MREMAP_MAYMOVE);
	ok(moved != MAP_FAILED, "mremap: grows a profiled mapping");
	memset((void *)(moved + N * PAGE), 1, N * PAGE);
	ok(intact(moved, N), "mremap: data are intact after growing");
	finish(&p);
	munmap((void *)moved, 2 * N * PAGE);
	munmap((void *)(place + N * PAGE), N * PAGE);
}

static void unmapping(void)
{
	byte *memory = pages(N);
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);
	void *again;

	read_each(memory, N);
	munmap((void *)(memory + 8 * PAGE), 8 * PAGE);
	page_profile_rearm(p.fd);
	read_each(memory, 8);
	ok(p.counts[0].reads == 2 && p.counts[8].reads == 1,
	   "munmap: the rest is counted, unmapped pages keep their counters");
	again = mmap((void *)(memory + 8 * PAGE), 8 * PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); /* at the hint if it is free */
	ok(again == memory + 8 * PAGE, "munmap: a new mapping in the hole");
	write_each(memory + 8 * PAGE, 8);
	ok(p.counts[8].reads == 1 && p.counts[8].writes == 0,
	   "munmap: the new mapping is not profiled");
	is(page_profile_stop(p.fd), 0, "munmap: stop with a hole");
	is(page_profile_start(p.fd), 0, "munmap: start with a hole");
	munmap((void *)memory, N * PAGE);
	is(page_profile_rearm(p.fd), 0, "munmap: re-arm without mappings");
	is(page_profile_remove(p.fd, (void *)memory, N * PAGE), 0,
	   "munmap: remove without mappings");
	finish(&p);
}

static void discarding(void)
{
	byte *memory = pages(N);
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);

	read_each(memory, N);
	page_profile_rearm(p.fd);
	madvise((void *)memory, N * PAGE, MADV_DONTNEED);
	write_each(memory, N);
	all_have(&p, 1, 1, "MADV_DONTNEED: writes to new pages count");
	ok(memory[PAGE] == 0 && memory[PAGE + 64] == 2, "MADV_DONTNEED: pages are new");
	page_profile_rearm(p.fd);
	madvise((void *)memory, N * PAGE, MADV_FREE);
	write_each(memory, N);
	all_have(&p, 1, 2, "MADV_FREE: writes count");
	ok(memory[PAGE + 64] == 2, "MADV_FREE: later writes persist");
	adds_up(&p, "discarding");
	finish(&p);
	munmap((void *)memory, N * PAGE);
}

static void refused(void)
{
	int fd = page_profile_open(0), file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	byte *memory;

	put("/proc/sys/vm/nr_hugepages", "4");
	memory = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
		      -1, 0);
	if (memory == MAP_FAILED) {
		skip("refused: hugetlb", "no huge page");
	} else {
		memory[0] = 1;
		fails(page_profile_add(fd, (void *)memory, HUGE, NULL), EINVAL, "refused: hugetlb");
		munmap((void *)memory, HUGE);
	}
	put("/proc/sys/vm/nr_hugepages", "0");
	memory = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
	fails(page_profile_add(fd, (void *)memory, PAGE, NULL), EINVAL,
	      "refused: a private file mapping");
	munmap((void *)memory, PAGE);
	memory = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
	fails(page_profile_add(fd, (void *)memory, PAGE, NULL), EINVAL,
	      "refused: a shared file mapping");
	munmap((void *)memory, PAGE);
	memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fails(page_profile_add(fd, (void *)memory, PAGE, NULL), EINVAL, "refused: shared memory");
	munmap((void *)memory, PAGE);
	memory = pages(3);
	munmap((void *)(memory + PAGE), PAGE);
	fails(page_profile_add(fd, (void *)memory, 3 * PAGE, NULL), ENOMEM,
	      "refused: a range with a hole");
	is(smaps(memory, "VmFlags", " pp"), 0, "refused: no mapping is flagged after a failure");
	close(file);
	close(fd);
}

/* Mappings are split at the boundaries of a range, and merged afterwards. */
static void boundaries(void)
{
	byte *memory = pages(N);
	int before = mappings();
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory + 8 * PAGE, 8);
	uint64_t offset;

	is(mappings(), before + 3,
	   "boundaries: a range splits its mapping (plus one mapping of counters)");
	is(page_profile_add(p.fd, (void *)(memory + 16 * PAGE), 8 * PAGE, &offset), 0,
	   "boundaries: add an adjacent range");
	read_each(memory, N);
	all_have(&p, 1, 0, "boundaries: accesses inside count");
	is((long long)stats(&p).user_faults, 16, "boundaries: accesses outside do not fault");
	is(page_profile_remove(p.fd, (void *)(memory + 8 * PAGE), 8 * PAGE), 0,
	   "boundaries: remove one range");
	page_profile_rearm(p.fd);
	read_each(memory, N);
	is((long long)stats(&p).user_faults, 24, "boundaries: only the other range is counted");
	finish(&p);
	is(mappings(), before, "boundaries: the mapping is merged again");
	ok(intact(memory, N), "boundaries: data are intact");
	munmap((void *)memory, N * PAGE);
}

int main(void)
{
	copy_on_write();
	protection();
	remapping();
	unmapping();
	discarding();
	refused();
	boundaries();
	return done();
}
