// SPDX-License-Identifier: GPL-2.0-only
/*
 * Run a command with all its processes profiled:
 *
 *   profiled [-w PAGES] COMMAND...
 *
 * Every few milliseconds, searches for descendants, creates a profile for each (epoch mode, or a
 * window of PAGES), adds its new private anonymous mappings, and re-arms it. Prints the number of
 * processes and caught accesses on stderr. Exits with the status of the command.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <sys/ioctl.h>

#include "guest.h"

#define PROCESSES 256
#define RANGES	  512
#define PERIOD_US 5000

static struct tracked {
	pid_t pid;
	int fd;
	bool started;
	size_t ranges;
	struct {
		unsigned long start, end;
	} range[RANGES];
} tracked[PROCESSES];

static unsigned int window;
static unsigned long processes, ranges, faults, lost;

static pid_t parent_of(pid_t pid)
{
	char path[64], line[512], *end;
	FILE *f;
	int parent = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (f && fgets(line, sizeof(line), f)) {
		end = strrchr(line, ')');
		if (end)
			sscanf(end + 1, " %*c %d", &parent);
	}
	if (f)
		fclose(f);
	return parent;
}

static bool is_descendant(pid_t pid)
{
	for (int depth = 0; pid > 1 && depth < 16; depth++) {
		pid = parent_of(pid);
		if (pid == getpid())
			return true;
	}
	return false;
}

static void drop(struct tracked *t)
{
	struct page_profile_stats s;

	if (!page_profile_stats(t->fd, &s)) {
		faults += s.user_faults + s.kernel_faults;
		lost += s.lost;
	}
	close(t->fd);
	memset(t, 0, sizeof(*t));
}

static bool overlaps(const struct tracked *t, unsigned long start, unsigned long end)
{
	for (size_t i = 0; i < t->ranges; i++)
		if (start < t->range[i].end && t->range[i].start < end)
			return true;
	return false;
}

/* Add all private mappings. The kernel refuses those that are not anonymous. */
static void extend(struct tracked *t)
{
	char path[64], line[512], permissions[8];
	unsigned long start, end, offset;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", t->pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f) && t->ranges < RANGES) {
		if (sscanf(line, "%lx-%lx %7s %lx", &start, &end, permissions, &offset) != 4 ||
		    permissions[3] != 'p' || strstr(line, "[v") || overlaps(t, start, end))
			continue;
		if (page_profile_add(t->fd, (void *)start, end - start, NULL) == 0) {
			t->range[t->ranges].start = start;
			t->range[t->ranges++].end = end;
			ranges++;
		}
	}
	if (f)
		fclose(f);
	if (!t->started && t->ranges)
		t->started = page_profile_start(t->fd) == 0;
}

static struct tracked *find(pid_t pid)
{
	struct tracked *free_slot = NULL;

	for (struct tracked *t = tracked; t < tracked + PROCESSES; t++) {
		if (t->pid == pid)
			return t;
		if (!t->pid && !free_slot)
			free_slot = t;
	}
	if (!free_slot || !is_descendant(pid))
		return NULL;
	free_slot->fd = page_profile_open(O_CLOEXEC);
	if (free_slot->fd < 0)
		return NULL;
	if (page_profile_target(free_slot->fd, pid) ||
	    page_profile_configure(free_slot->fd, window ? PAGE_PROFILE_WINDOW : PAGE_PROFILE_EPOCH,
				   window)) {
		close(free_slot->fd);
		return NULL;
	}
	free_slot->pid = pid;
	processes++;
	return free_slot;
}

static void scan(unsigned int round)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	while (proc && (entry = readdir(proc))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
		struct tracked *t = pid > 1 && pid != getpid() ? find(pid) : NULL;

		if (!t)
			continue;
		if (round % 8 == 0 || !t->started)
			extend(t);
		/* ESRCH: the process exited or executed another program */
		if (t->started && page_profile_rearm(t->fd) && errno == ESRCH)
			drop(t);
	}
	if (proc)
		closedir(proc);
}

int main(int argc, char **argv)
{
	int status, at = 1;
	pid_t child;

	if (argc > 2 && !strcmp(argv[1], "-w")) {
		window = (unsigned int)strtoul(argv[2], NULL, 10);
		at = 3;
	}
	if (at >= argc) {
		fprintf(stderr, "usage: profiled [-w PAGES] COMMAND...\n");
		return 2;
	}
	child = fork();
	if (child == 0) {
		execvp(argv[at], argv + at);
		_exit(127);
	}
	for (unsigned int round = 0; waitpid(child, &status, WNOHANG) == 0; round++) {
		scan(round);
		usleep(PERIOD_US);
	}
	for (struct tracked *t = tracked; t < tracked + PROCESSES; t++)
		if (t->pid)
			drop(t);
	fprintf(stderr, "profiled: %lu address spaces, %lu ranges, %lu caught accesses, %lu lost\n",
		processes, ranges, faults, lost);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
