// SPDX-License-Identifier: GPL-2.0-only
/* The device, its ioctls and mmap(): every errno, privilege, and profiles of other processes */
#define _GNU_SOURCE
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "guest.h"

#define N	 8UL
#define RESTRICT "/proc/sys/vm/page_profile_restrict"

static void opening(void)
{
	int fd = page_profile_open(0), closed = page_profile_open(O_CLOEXEC);
	struct stat device;

	is(stat(PAGE_PROFILE_DEVICE, &device), 0, "open: the device exists");
	ok(S_ISCHR(device.st_mode) && (device.st_mode & 0777) == 0666,
	   "open: the mode allows all users (%o)", device.st_mode);
	ok(fd >= 0 && fcntl(fd, F_GETFD) == 0, "open: without O_CLOEXEC");
	ok(closed >= 0 && fcntl(closed, F_GETFD) == FD_CLOEXEC, "open: with O_CLOEXEC");
	fails(read(fd, &(char){0}, 1), EINVAL, "open: read() fails");
	fails(write(fd, "", 1), EINVAL, "open: write() fails");
	close(fd);
	close(closed);
}

/*
 * The profiler occupies no system call number: C libraries try the calls of later kernels and rely
 * on ENOSYS. The first free number is 332 in Linux 4.9 (statx(2) since 4.11), and 451 in 6.1
 * (cachestat(2) since 6.5).
 */
static void system_call_numbers(void)
{
	struct utsname kernel;
	unsigned int major = 0, minor = 0, other = 0;
	long first;

	if (uname(&kernel) || sscanf(kernel.release, "%u.%u", &major, &minor) != 2)
		die("uname");
	first = major == 4 && minor == 9 ? 332 : major == 6 && minor == 1 ? 451 : 0;
	if (!first) {
		skip("system calls: all later ones fail", "first free number not known");
		return;
	}
	for (long number = first; number <= 600; number++)
		if (syscall(number, 0, 0, 0, 0, 0, 0) != -1 || errno != ENOSYS) {
			printf("# %ld: %s\n", number, strerror(errno));
			other++;
		}
	is(other, 0, "system calls: all later ones fail with ENOSYS");
	is(system("ls / >/dev/null && stat /etc/hostname >/dev/null"), 0,
	   "system calls: ls and stat, which try statx(2), succeed");
}

static void order(void)
{
	byte *memory = pages(N);
	int fd = page_profile_open(O_CLOEXEC);

	fails(page_profile_start(fd), EINVAL, "order: start without a range");
	fails(page_profile_stop(fd), EINVAL, "order: stop before start");
	fails(page_profile_rearm(fd), EINVAL, "order: re-arm before start");
	is(page_profile_reset(fd), 0, "order: reset at any time");
	is(page_profile_add(fd, (void *)memory, N * PAGE, NULL), 0, "order: add a range");
	fails(page_profile_target(fd, getpid()), EBUSY,
	      "order: set the target after the first range");
	is(page_profile_start(fd), 0, "order: start");
	fails(page_profile_start(fd), EBUSY, "order: start twice");
	fails(page_profile_configure(fd, PAGE_PROFILE_EPOCH, 0), EBUSY,
	      "order: configure while running");
	is(page_profile_stop(fd), 0, "order: stop");
	fails(page_profile_stop(fd), EINVAL, "order: stop twice");
	is(page_profile_configure(fd, PAGE_PROFILE_WINDOW, 64), 0,
	   "order: configure while stopped");
	is(page_profile_start(fd), 0, "order: start again");
	is(page_profile_remove(fd, (void *)memory, N * PAGE), 0,
	   "order: remove the last range while running");
	is(page_profile_rearm(fd), 0, "order: re-arm without ranges");
	close(fd);
	munmap((void *)memory, N * PAGE);
}

/* Unknown ioctls fail with ENOTTY, regardless of process and argument. */
static void unknown_ioctls(int fd, const char *when)
{
	static const struct {
		unsigned long command;
		const char *name;
	} unknown[] = {
		{_IO(PAGE_PROFILE_IOC, 0x0a), "an unknown number"},
		{_IOW(PAGE_PROFILE_IOC, 0x0a, struct page_profile_range),
		 "an unknown number with an argument"},
		{_IOWR(PAGE_PROFILE_IOC, 0x01, struct page_profile_config),
		 "a known number with a wrong direction"},
		{_IOC(_IOC_WRITE, PAGE_PROFILE_IOC, 0x01, 4096), "a wrong size"},
		{_IOW(PAGE_PROFILE_IOC, 0x02, __u32), "a wrong size of a range"},
		{_IO('T', 0x04), "a wrong type"},
		{0, "zero"},
	};
	char point[100];

	for (size_t i = 0; i < sizeof(unknown) / sizeof(*unknown); i++) {
		snprintf(point, sizeof(point), "%s: %s", when, unknown[i].name);
		fails(ioctl(fd, unknown[i].command, (void *)8), ENOTTY, point);
	}
}

static void configuring(void)
{
	int fd = page_profile_open(O_CLOEXEC);

	fails(page_profile_configure(fd, (enum page_profile_mode)2, 0), EINVAL,
	      "configure: an unknown mode");
	fails(page_profile_configure(fd, (enum page_profile_mode) ~0U, 0), EINVAL,
	      "configure: the largest mode");
	fails(page_profile_configure(fd, PAGE_PROFILE_WINDOW, 0), EINVAL,
	      "configure: a window of 0 pages");
	fails(page_profile_configure(fd, PAGE_PROFILE_WINDOW, 65), EINVAL,
	      "configure: a window of 65 pages");
	fails(page_profile_configure(fd, PAGE_PROFILE_EPOCH, 1), EINVAL,
	      "configure: a window in epoch mode");
	is(page_profile_configure(fd, PAGE_PROFILE_WINDOW, 1), 0, "configure: the smallest window");
	fails(ioctl(fd, PAGE_PROFILE_CONFIGURE, NULL), EFAULT, "configure: no argument");
	fails(ioctl(fd, PAGE_PROFILE_STATS, (void *)8), EFAULT, "statistics: an invalid address");
	unknown_ioctls(fd, "ioctl");
	close(fd);
}

static void adding(void)
{
	byte *memory = pages(N);
	int fd = page_profile_open(O_CLOEXEC), other = page_profile_open(O_CLOEXEC);
	const void *beyond = (const void *)0x800000000000;
	uint64_t first, second;

	fails(page_profile_add(fd, (void *)memory, 0, NULL), EINVAL, "add: length 0");
	fails(page_profile_add(fd, (void *)(memory + 1), PAGE, NULL), EINVAL,
	      "add: an unaligned address");
	fails(page_profile_add(fd, (void *)memory, PAGE + 1, NULL), EINVAL,
	      "add: an unaligned length");
	fails(page_profile_add(fd, (void *)memory, -PAGE, NULL), EINVAL,
	      "add: an end that overflows");
	fails(page_profile_add(fd, beyond, PAGE, NULL), EINVAL, "add: beyond user space");
	fails(page_profile_add(fd, (void *)-PAGE, PAGE, NULL), EINVAL, "add: kernel addresses");
	fails(page_profile_add(fd, NULL, PAGE, NULL), ENOMEM, "add: an unmapped address");
	is(page_profile_add(other, (void *)memory, PAGE, NULL), 0,
	   "add: a failed first range does not bind the process");
	page_profile_clear(other);
	fails(ioctl(fd, PAGE_PROFILE_ADD, NULL), EFAULT, "add: no argument");
	is(page_profile_add(fd, (void *)memory, 2 * PAGE, &first), 0, "add: two pages");
	is(page_profile_add(fd, (void *)(memory + 2 * PAGE), 2 * PAGE, &second), 0,
	   "add: the next two pages");
	ok(first != second && first % PAGE == 0 && second % PAGE == 0,
	   "add: each range has its own counters");
	fails(page_profile_add(fd, (void *)memory, 2 * PAGE, NULL), EEXIST,
	      "add: the same range again");
	fails(page_profile_add(fd, (void *)(memory + PAGE), 7 * PAGE, NULL), EEXIST,
	      "add: an overlapping range");
	fails(page_profile_add(other, (void *)(memory + 4 * PAGE), PAGE, NULL), EBUSY,
	      "add: another profile of the process");
	fails(page_profile_remove(fd, (void *)memory, PAGE), ENOENT, "remove: half a range");
	fails(page_profile_remove(fd, (void *)(memory + PAGE), PAGE), ENOENT,
	      "remove: the other half");
	fails(page_profile_remove(fd, (void *)(memory + 4 * PAGE), PAGE), ENOENT,
	      "remove: a range that was not added");
	is(page_profile_remove(fd, (void *)memory, 2 * PAGE), 0, "remove: a range");
	fails(page_profile_remove(fd, (void *)memory, 2 * PAGE), ENOENT, "remove: a range twice");
	is(page_profile_add(fd, (void *)memory, 2 * PAGE, &second), 0,
	   "add: a removed range again");
	ok(second > first, "add: it has new counters");
	is(page_profile_clear(fd), 0, "clear: removes all ranges");
	is(page_profile_clear(fd), 0, "clear: without ranges");
	fails(page_profile_remove(fd, (void *)memory, 2 * PAGE), ENOENT,
	      "clear: the ranges are gone");
	is(page_profile_add(other, (void *)memory, PAGE, NULL), 0,
	   "clear: another profile can bind the process");
	fails(page_profile_add(fd, (void *)memory, PAGE, NULL), EBUSY,
	      "clear: the process is bound to it");
	close(other);
	is(page_profile_add(fd, (void *)memory, PAGE, &second), 0,
	   "clear: closing it releases the process");
	is(page_profile_start(fd), 0, "clear: the first profile can start again");
	close(fd);
	munmap((void *)memory, N * PAGE);
}

static void limits(void)
{
	size_t most = 1024, huge = 1UL << 40;
	byte *memory = mmap(NULL, 2 * most * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	byte *wide =
		mmap(NULL, huge, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int fd = page_profile_open(O_CLOEXEC);
	size_t added = 0;

	while (added <= most &&
	       !page_profile_add(fd, (void *)(memory + 2 * added * PAGE), PAGE, NULL))
		added++;
	fails(-1, ENOSPC, "limits: too many ranges");
	is((long long)added, (long long)most, "limits: the maximum is 1024 ranges");
	is(page_profile_start(fd), 0, "limits: start with 1024 ranges");
	read_each(memory, 2 * most);
	ok(page_profile_rearm(fd) == 0, "limits: re-arm 1024 ranges");
	close(fd);
	fd = page_profile_open(O_CLOEXEC);
	fails(page_profile_add(fd, (void *)wide, huge, NULL), ENOSPC,
	      "limits: more counters than memory");
	close(fd);
	munmap((void *)memory, 2 * most * PAGE);
	munmap((void *)wide, huge);
}

static void mapping(void)
{
	size_t n = 1024; /* pages: two pages of counters */
	byte *memory = pages(n);
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, n);
	const volatile struct page_profile_count *counts = p.counts;
	void *map;

	fails((long)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd, 0), EACCES,
	      "mmap: writable");
	fails((long)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, p.fd, 0), EACCES,
	      "mmap: writable and private");
	fails(mprotect((void *)(uintptr_t)counts, PAGE, PROT_READ | PROT_WRITE), EACCES,
	      "mmap: mprotect() to writable");
	fails((long)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, p.fd, 1L << 40), ENXIO,
	      "mmap: an offset without counters");
	fails((long)mmap(NULL, 3 * PAGE, PROT_READ, MAP_SHARED, p.fd, 0), EINVAL,
	      "mmap: a size beyond the counters");
	map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, p.fd, PAGE);
	ok(map != MAP_FAILED, "mmap: the second page of counters alone");
	(void)memory[(n - 1) * PAGE];
	is(((volatile struct page_profile_count *)map)[511].reads, 1,
	   "mmap: both mappings show the same counters (second)");
	is(counts[n - 1].reads, 1, "mmap: both mappings show the same counters (first)");
	is(page_profile_remove(p.fd, (void *)memory, n * PAGE), 0, "mmap: remove the range");
	is(counts[n - 1].reads, 1, "mmap: counters of a removed range stay mapped");
	fails((long)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, p.fd, 0), ENXIO,
	      "mmap: counters of a removed range cannot be mapped");
	munmap(map, PAGE);
	finish(&p);
	munmap((void *)memory, n * PAGE);
}

static void as_nobody(void *other)
{
	byte *memory = pages(N);
	int fd;

	become(65534);
	fd = page_profile_open(0);
	ok(fd >= 0 && page_profile_add(fd, (void *)memory, N * PAGE, NULL) == 0,
	   "privilege: a user may profile their own process");
	close(fd);
	fd = page_profile_open(0);
	fails(page_profile_target(fd, *(pid_t *)other), EPERM,
	      "privilege: a user may not profile root's process");
	fails(page_profile_target(fd, 1), EPERM, "privilege: a user may not profile init");
	close(fd);
}

static void restricted(void *unused)
{
	become(65534);
	fails(page_profile_open(0), EPERM, "privilege: vm.page_profile_restrict excludes users");
	fails(open(RESTRICT, O_WRONLY), EACCES, "privilege: users cannot change it");
}

static void privileges(void)
{
	pid_t me = getpid();
	int fd = page_profile_open(O_CLOEXEC);

	fails(page_profile_target(fd, 0), ESRCH, "target: process 0");
	fails(page_profile_target(fd, 1 << 30), ESRCH, "target: a process that does not exist");
	fails(page_profile_target(fd, 2), ESRCH, "target: a kernel thread");
	is(page_profile_target(fd, me), 0, "target: the calling process");
	close(fd);
	is(in_child(as_nobody, &me), 0, "privilege: the unprivileged child succeeded");
	ok(put(RESTRICT, "1"), "privilege: vm.page_profile_restrict exists");
	ok(!put(RESTRICT, "2") && !put(RESTRICT, "-1"), "privilege: it accepts only 0 and 1");
	is(in_child(restricted, NULL), 0, "privilege: the restricted child succeeded");
	fd = page_profile_open(0);
	ok(fd >= 0, "privilege: it does not affect root");
	close(fd);
	put(RESTRICT, "0");
}

/* Profile another process, without its cooperation. */
static void other_process(void)
{
	byte *memory = pages(N);
	int go[2], fd = page_profile_open(O_CLOEXEC), status;
	const volatile struct page_profile_count *counts;
	uint64_t offset = 0;
	pid_t child;

	if (pipe(go))
		die("pipe");
	child = fork();
	if (child == 0) {
		char word;

		close(go[1]);
		close(fd);
		while (read(go[0], &word, 1) == 1)
			read_each(memory, N);
		_exit(intact(memory, N) ? 0 : 1);
	}
	close(go[0]);
	is(page_profile_target(fd, child), 0, "other process: set a child as target");
	is(page_profile_configure(fd, PAGE_PROFILE_WINDOW, 2), 0, "other process: configure");
	is(page_profile_add(fd, (void *)memory, N * PAGE, &offset), 0,
	   "other process: add a range of its memory");
	counts = page_profile_map(fd, offset, N * PAGE);
	is(page_profile_start(fd), 0, "other process: start");
	for (int i = 0; i < 10; i++)
		if (write(go[1], "x", 1) != 1)
			die("write");
	for (double until = seconds() + 10; seconds() < until && counts[N - 1].reads < 10;)
		usleep(1000);
	ok(counts[0].reads == 10 && counts[N - 1].reads == 10,
	   "other process: its accesses are counted");
	read_each(memory, N);
	usleep(10000);
	is(counts[0].reads, 10, "other process: the caller's accesses are not counted");
	close(go[1]);
	waitpid(child, &status, 0);
	is(status, 0, "other process: its data are intact, and it exits with 0");
	is(counts[0].reads, 11, "other process: counters are readable after its exit");
	fails(page_profile_stop(fd), ESRCH, "other process: stop after its exit");
	fails(page_profile_rearm(fd), ESRCH, "other process: re-arm after its exit");
	unknown_ioctls(fd, "other process: after its exit");
	fails(page_profile_add(fd, (void *)memory, PAGE, NULL), ESRCH,
	      "other process: add after its exit");
	is(page_profile_stats(fd, &(struct page_profile_stats){0}), 0,
	   "other process: statistics after its exit");
	page_profile_unmap(counts, N * PAGE);
	is(close(fd), 0, "other process: close after its exit");
	munmap((void *)memory, N * PAGE);
}

int main(void)
{
	opening();
	system_call_numbers();
	order();
	configuring();
	adding();
	limits();
	mapping();
	privileges();
	other_process();
	return done();
}
