// SPDX-License-Identifier: GPL-2.0-only
/* Profiled processes that fork, exec or are killed; and the state after a profile ends */
#define _GNU_SOURCE
#include <pthread.h>
#include <spawn.h>

#include "guest.h"

#define N	64UL
#define EVENT	"/sys/kernel/debug/tracing/events/exceptions/page_fault_user/"
#define TRACING "/sys/kernel/debug/tracing/"

extern char **environ;

/* Returns the number of reserved-bit faults (error code bit 3) of all processes since
 * tracing(true). */
static long traced_faults(void)
{
	FILE *f = fopen(TRACING "trace", "re");
	char line[512];
	long n = 0;

	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, "page_fault_user:") != NULL;
	if (f)
		fclose(f);
	return n;
}

static bool tracing(bool on)
{
	if (!on)
		return put(EVENT "enable", "0");
	close(open(TRACING "trace", O_WRONLY | O_TRUNC | O_CLOEXEC)); /* empties the trace */
	return put(EVENT "filter", "error_code & 8") && put(EVENT "enable", "1") &&
	       put(TRACING "tracing_on", "1");
}

/* Report a test point: no entry is marked, so accesses take no reserved-bit fault. */
static void restored(byte *memory, size_t n, const char *name)
{
	if (!tracing(true)) {
		skip(name, "no tracepoint for page faults");
		return;
	}
	read_each(memory, n);
	write_each(memory, n);
	tracing(false);
	is(traced_faults(), 0, name);
}

static void closing(void)
{
	byte *memory = pages(N);
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);

	if (tracing(true)) {
		read_each(memory, N);
		tracing(false);
		is(traced_faults(), N, "close: each page faults while the profile runs");
	}
	page_profile_rearm(p.fd);
	page_profile_stop(p.fd);
	restored(memory, N, "stop: no entry stays marked");
	page_profile_start(p.fd);
	page_profile_remove(p.fd, (void *)memory, N * PAGE);
	restored(memory, N, "remove: no entry stays marked");
	finish(&p);
	p = profile(PAGE_PROFILE_WINDOW, 8, memory, N);
	read_each(memory, N);
	finish(&p);
	restored(memory, N, "close: no entry stays marked");
	p = profile(PAGE_PROFILE_WINDOW, 8, memory, N);
	read_each(memory, N);
	mmap((void *)(memory + 60 * PAGE), 4 * PAGE, PROT_READ | PROT_WRITE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); /* replaces pages in the window */
	write_each(memory + 60 * PAGE, 4);
	read_each(memory, 32); /* evicts them */
	finish(&p);
	restored(memory, N, "close: no entry of a new mapping stays marked");
	p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);
	close(p.fd);
	restored(memory, N, "close: it ends the profile although counters are mapped");
	all_have(&p, 0, 0, "close: counters stay readable");
	page_profile_unmap(p.counts, N * PAGE);
	munmap((void *)memory, N * PAGE);
}

static void forking(void)
{
	byte *memory = pages(N);
	struct profile p = profile(PAGE_PROFILE_WINDOW, 8, memory, N);
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		/* The descriptor refers to the parent's profile. */
		bool passed = page_profile_rearm(p.fd) == 0;
		int own = page_profile_open(0);

		passed &= page_profile_add(own, (void *)memory, N * PAGE, NULL) == 0 &&
			  page_profile_start(own) == 0;
		read_each(memory, N);
		passed &= intact(memory, N);
		close(own);
		_exit(passed ? 0 : 1);
	}
	waitpid(child, &status, 0);
	is(status, 0, "fork: a child can profile itself and use the descriptor");
	all_have(&p, 0, 0, "fork: a child's accesses are not counted");
	if (tracing(true)) {
		child = fork();
		if (child == 0) {
			read_each(memory, N);
			write_each(memory, N);
			_exit(0);
		}
		waitpid(child, &status, 0);
		tracing(false);
		is(traced_faults(), 0, "fork: a child has no marked entries");
	}
	close(p.fd);
	child = fork();
	if (child == 0)
		_exit(intact(memory, N) ? 0 : 1);
	waitpid(child, &status, 0);
	is(status, 0, "fork: data are intact after close");
	page_profile_unmap(p.counts, N * PAGE);

	p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);
	for (int i = 0; i < 20; i++) {
		child = fork();
		if (child == 0) {
			write_each(memory, N);
			_exit(0);
		}
		write_each(memory, N);
		waitpid(child, &status, 0);
		page_profile_rearm(p.fd);
	}
	all_have(&p, 0, 20, "fork: copies on write count once");
	adds_up(&p, "fork");
	finish(&p);

	p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);
	child = fork();
	if (child == 0) {
		pause();
		_exit(1);
	}
	is(page_profile_clear(p.fd), 0, "fork: clear while a child has the descriptor");
	finish(&p);
	restored(memory, N, "fork: no entry stays marked after clear");
	p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);
	read_each(memory, N);
	all_have(&p, 1, 0, "fork: another profile can be created");
	finish(&p);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);

	/* A child keeps the descriptor after its parent exits. */
	child = fork();
	if (child == 0) {
		p = profile(PAGE_PROFILE_WINDOW, 4, memory, N);
		if (fork() == 0) {
			usleep(50000);
			_exit(page_profile_rearm(p.fd) == -1 && errno == ESRCH ? 0 : 1);
		}
		_exit(0);
	}
	waitpid(child, &status, 0);
	usleep(100000);
	is(status, 0, "fork: a descriptor outlives its process");
	munmap((void *)memory, N * PAGE);
}

static void executing(void)
{
	byte *memory = pages(N);
	struct profile p = profile(PAGE_PROFILE_WINDOW, 8, memory, N);
	char *const arguments[] = {"true", NULL};
	int status;
	pid_t child;

	is(posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ), 0,
	   "exec: posix_spawn()");
	waitpid(child, &status, 0);
	is(status, 0, "exec: the program ran");
	child = vfork();
	if (child == 0) {
		execv("/bin/true", arguments);
		_exit(1);
	}
	waitpid(child, &status, 0);
	is(status, 0, "exec: vfork() and exec");
	read_each(memory, N);
	all_have(&p, 1, 0, "exec: the parent's profile continues");
	finish(&p);
	child = fork();
	if (child == 0) {
		p = profile(PAGE_PROFILE_WINDOW, 8, memory, N);
		fcntl(p.fd, F_SETFD, 0);
		read_each(memory, N);
		execv("/bin/true", arguments); /* keeps the descriptor of the old address space */
		_exit(1);
	}
	waitpid(child, &status, 0);
	is(status, 0, "exec: a profiled process executes another program");
	munmap((void *)memory, N * PAGE);
}

static void *toucher(void *argument)
{
	byte *memory = argument;

	for (unsigned int i = 0;; i++)
		memory[(i * 7 % N) * PAGE + 8] = memory[(i * 13 % N) * PAGE + 8];
	return NULL;
}

static void killing(void)
{
	for (int round = 0; round < 20; round++) {
		pid_t child = fork();
		int status;

		if (child == 0) {
			byte *memory = pages(N);
			pthread_t thread;

			profile(round % 2 ? PAGE_PROFILE_WINDOW : PAGE_PROFILE_EPOCH,
				round % 2 ? 4 : 0, memory, N);
			for (int i = 0; i < 4; i++)
				pthread_create(&thread, NULL, toucher, (void *)memory);
			if (round % 4 == 3)
				usleep(10000), _exit(0);
			pause();
		}
		usleep(20000);
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
		if (!WIFSIGNALED(status) && status != 0)
			ok(false, "kill: round %d ended with %x", round, status);
	}
	ok(true, "kill: twenty processes with four threads were killed or exited");
}

/* Threads fault while another one closes, adds, removes, starts and stops profiles. */
static void racing(void)
{
	double until = seconds() + 5;
	byte *memory = pages(N);
	unsigned int rounds = 0;
	pid_t child = fork();
	int status;

	if (child == 0) {
		pthread_t thread;

		for (int i = 0; i < 4; i++)
			pthread_create(&thread, NULL, toucher, (void *)memory);
		for (; seconds() < until; rounds++) {
			enum page_profile_mode mode =
				rounds % 2 ? PAGE_PROFILE_EPOCH : PAGE_PROFILE_WINDOW;
			struct profile p = profile(
				mode, mode == PAGE_PROFILE_WINDOW ? 1 + rounds % 16 : 0, memory, N);

			for (int i = 0; i < 3; i++) {
				page_profile_rearm(p.fd);
				page_profile_stop(p.fd);
				page_profile_start(p.fd);
			}
			if (rounds % 2)
				page_profile_remove(p.fd, (void *)memory, N * PAGE);
			finish(&p);
		}
		_exit(rounds > 3 ? 0 : 1);
	}
	waitpid(child, &status, 0);
	is(status, 0, "race: threads fault while profiles start and end, in both modes");
	munmap((void *)memory, N * PAGE);
}

/* Several profiled processes run concurrently. */
static void many(void)
{
	pid_t children[6];
	int succeeded = 0, status;

	fflush(stdout);
	for (int i = 0; i < 6; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			byte *memory = pages(N);
			struct profile p =
				profile(PAGE_PROFILE_WINDOW, 4 + (unsigned int)i, memory, N);

			for (int round = 0; round < 20 + i; round++)
				read_each(memory, N);
			_exit(having(&p, 20 + (uint32_t)i, 0) == N && intact(memory, N) ? 0 : 1);
		}
	}
	for (int i = 0; i < 6; i++) {
		waitpid(children[i], &status, 0);
		succeeded += status == 0;
	}
	is(succeeded, 6, "many: six concurrent processes have independent counts");
}

int main(void)
{
	closing();
	forking();
	executing();
	killing();
	racing();
	many();
	return done();
}
