// SPDX-License-Identifier: Apache-2.0
/*
 * Processes end within their regions, each in a different way. After each one, the parent marks
 * USER(way) and has its own region with the dilation FIRST_DILATION + way. In the last way, the
 * main thread exits before another thread marks USER(0x100).
 */
#include "sentinel_markers.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define FIRST_DILATION 2000

enum way { EXIT, KILLED, FAULT, EXEC, EXEC_BY_THREAD, THREADS, WAYS };

static char *self;

static void *exec_self(void *unused)
{
	execl(self, self, "nothing", (char *)NULL);
	return unused;
}

static void *outlive_main(void *main_thread)
{
	char path[64], state = 0;

	/* Wait until it is a zombie: "pid (name) Z" */
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", *(int *)main_thread);
	while (state != 'Z') {
		FILE *f = fopen(path, "r");

		if (!f || fscanf(f, "%*d %*s %c", &state) != 1)
			abort();
		fclose(f);
	}
	sentinel_mark(SENTINEL_USER(0x100));
	_exit(0);
}

static void end(enum way way)
{
	static int main_thread;
	pthread_t thread;

	main_thread = getpid();
	sentinel_mark(SENTINEL_REGION_BEGIN);
	switch (way) {
	case EXIT:
		_exit(0);
	case KILLED:
		raise(SIGKILL);
		break;
	case FAULT:
		*(volatile int *)16 = 1;
		break;
	case EXEC:
		exec_self(NULL);
		break;
	case EXEC_BY_THREAD:
		pthread_create(&thread, NULL, exec_self, NULL);
		pthread_join(thread, NULL);
		break;
	case THREADS:
		pthread_create(&thread, NULL, outlive_main, &main_thread);
		syscall(SYS_exit, 0);
		break;
	default:
		break;
	}
	abort();
}

/* The number of a marker must be a compile-time constant. */
static void mark_way(enum way way)
{
	switch (way) {
	case EXIT:
		sentinel_mark(SENTINEL_USER(EXIT));
		break;
	case KILLED:
		sentinel_mark(SENTINEL_USER(KILLED));
		break;
	case FAULT:
		sentinel_mark(SENTINEL_USER(FAULT));
		break;
	case EXEC:
		sentinel_mark(SENTINEL_USER(EXEC));
		break;
	case EXEC_BY_THREAD:
		sentinel_mark(SENTINEL_USER(EXEC_BY_THREAD));
		break;
	default:
		sentinel_mark(SENTINEL_USER(THREADS));
		break;
	}
}

int main(int argc, char **argv)
{
	volatile struct sentinel_clock_page *page = sentinel_clock_page();

	self = argv[0];
	if (argc > 1)
		return 0;
	if (!page)
		return 1;
	for (enum way way = EXIT; way < WAYS; way++) {
		pid_t child = fork();

		if (child < 0)
			return 1;
		if (!child)
			end(way);
		waitpid(child, NULL, 0);
		mark_way(way);
		page->dilation = FIRST_DILATION + way;
		sentinel_mark(SENTINEL_REGION_BEGIN);
		sentinel_mark(SENTINEL_REGION_END);
		page->dilation = 0;
	}
	return 0;
}
