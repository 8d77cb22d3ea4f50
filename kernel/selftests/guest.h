/* SPDX-License-Identifier: GPL-2.0-only */
/* Changing the state of the guest, and the kernel's reports about memory */
#ifndef GUEST_H
#define GUEST_H

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "test.h"

#define PM_PRESENT (1ULL << 63)
#define PM_SWAPPED (1ULL << 62)
#define PM_FRAME   ((1ULL << 55) - 1)

/* Write a file in /proc or /sys. Returns true on success. */
UNUSED static bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return written;
}

/* Returns the number of the line "name[:] number" in a file, or -1. */
UNUSED static long number_in(const char *path, const char *name)
{
	FILE *f = fopen(path, "re");
	char line[512];
	long value = -1;

	while (f && value < 0 && fgets(line, sizeof(line), f)) {
		size_t length = strlen(name);

		if (!strncmp(line, name, length) && (line[length] == ':' || line[length] == ' '))
			value = strtol(line + length + 1, NULL, 10);
	}
	if (f)
		fclose(f);
	return value;
}

/* Returns the entry of `address` in /proc/self/pagemap. */
UNUSED static uint64_t pagemap(byte *address)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (fd < 0 || pread(fd, &entry, 8, (off_t)((uintptr_t)address / PAGE * 8)) != 8)
		die("pagemap");
	close(fd);
	return entry;
}

UNUSED static size_t swapped(byte *memory, size_t n)
{
	size_t out = 0;

	for (size_t i = 0; i < n; i++)
		out += !!(pagemap(memory + i * PAGE) & PM_SWAPPED);
	return out;
}

/*
 * Returns a field of the mapping at `address` in /proc/self/smaps, in kB. With `flag`, returns 1 if
 * the field ("VmFlags") contains it, else 0. Returns -1 if there is no such field.
 */
UNUSED static long smaps(byte *address, const char *field, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool here = false;
	char line[512];
	long value = -1;

	while (f && value < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start <= (uintptr_t)address && (uintptr_t)address < end;
		else if (here && !strncmp(line, field, strlen(field)))
			value = flag ? strstr(line, flag) != NULL
				     : strtol(line + strlen(field) + 1, NULL, 10);
	}
	if (f)
		fclose(f);
	return value;
}

/* Returns the number of mappings of this process. */
UNUSED static int mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	int n = 0;

	while (f && fgets(line, sizeof(line), f))
		n++;
	if (f)
		fclose(f);
	return n;
}

/* Migrate `n` pages to `node`. Returns the number of pages there afterwards, or -1. */
UNUSED static long move_to(byte *memory, size_t n, int node)
{
	void **addresses = calloc(n, sizeof(*addresses));
	int *nodes = calloc(n, sizeof(*nodes)), *status = calloc(n, sizeof(*status));
	long there = 0;

	for (size_t i = 0; i < n; i++) {
		addresses[i] = (void *)(memory + i * PAGE);
		nodes[i] = node;
		status[i] = -1;
	}
	if (syscall(SYS_move_pages, 0, n, addresses, nodes, status, 2 /* MPOL_MF_MOVE */) < 0 ||
	    syscall(SYS_move_pages, 0, n, addresses, NULL, status, 0) < 0)
		there = -1;
	for (size_t i = 0; there >= 0 && i < n; i++)
		there += status[i] == node;
	free(addresses);
	free(nodes);
	free(status);
	return there;
}

UNUSED static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Permanently switch to an unprivileged user. */
UNUSED static void become(unsigned int user)
{
	if (setgroups(0, NULL) || setresgid(user, user, user) || setresuid(user, user, user))
		die("setresuid");
	prctl(PR_SET_DUMPABLE, 1);
}

/* Run `function` in a child process. Returns its wait status. */
UNUSED static int in_child(void (*function)(void *), void *argument)
{
	int status = -1;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		function(argument);
		fflush(stdout);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		die("fork");
	return status;
}

/* Read each page, then report whether each read was counted and the data are intact. */
UNUSED static void still_counts(struct profile *p, unsigned int reads, unsigned int writes,
				const char *after)
{
	char point[100];

	read_each(p->memory, p->pages);
	snprintf(point, sizeof(point), "%s: reads are counted", after);
	all_have(p, reads, writes, point);
	snprintf(point, sizeof(point), "%s: data are intact", after);
	ok(intact(p->memory, p->pages), "%s", point);
	page_profile_rearm(p->fd);
}

UNUSED __attribute__((noinline)) static void touch(byte *at)
{
	(void)*at;
}

#endif
