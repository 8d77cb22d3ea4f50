// SPDX-License-Identifier: GPL-2.0-only
/* Profiled processes that are traced, interrupted or single-stepped */
#define _GNU_SOURCE
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/user.h>

#include "guest.h"

#define N 64UL

static void debugging(enum page_profile_mode mode, const char *name)
{
	byte *memory = pages(N);
	struct user_regs_struct registers;
	int status, steps = 0;
	char point[80];
	pid_t child;
	long word;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		profile(mode, mode == PAGE_PROFILE_WINDOW ? 2 : 0, memory, N);
		raise(SIGSTOP);
		read_each(memory, N);
		_exit(memory[3 * PAGE] == 0x77 ? 0 : 1);
	}
	waitpid(child, &status, 0);
	errno = 0;
	word = ptrace(PTRACE_PEEKDATA, child, memory + 5 * PAGE, NULL);
	snprintf(point, sizeof(point), "ptrace, %s: peek", name);
	is(word, 0x0606060606060606, point);
	snprintf(point, sizeof(point), "ptrace, %s: poke", name);
	is(ptrace(PTRACE_POKEDATA, child, memory + 3 * PAGE, 0x77), 0, point);
	while (steps < 2000 && ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0 &&
	       waitpid(child, &status, 0) == child && WIFSTOPPED(status) &&
	       WSTOPSIG(status) == SIGTRAP)
		steps++;
	ptrace(PTRACE_GETREGS, child, NULL, &registers);
	snprintf(point, sizeof(point), "ptrace, %s: single steps (%d)", name, steps);
	ok(steps > 100, "%s", point);
	if (WIFSTOPPED(status)) {
		ptrace(PTRACE_CONT, child, NULL, NULL);
		waitpid(child, &status, 0);
	}
	snprintf(point, sizeof(point), "ptrace, %s: the process exits", name);
	is(status, 0, point);
	munmap((void *)memory, N * PAGE);
}

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
	signals++;
}

/* Signals that arrive between a caught access and its repetition */
static void interrupted(void)
{
	byte *memory = pages(N);
	struct profile p = profile(PAGE_PROFILE_WINDOW, 1, memory, N);
	struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
	unsigned int rounds = 0;

	signal(SIGALRM, on_signal);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 0; i < 1000 || !signals; i++) {
		read_each(memory, N);
		rounds++;
	}
	setitimer(ITIMER_REAL, &never, NULL);
	ok(signals > 0, "signals: %d arrived", (int)signals);
	all_have(&p, rounds, 0, "signals: each access counts once");
	finish(&p);
	signal(SIGALRM, SIG_DFL);
	munmap((void *)memory, N * PAGE);
}

/* Execute instructions with the trap flag set. Returns the number of traps. */
static int step(byte *at)
{
	signals = 0;
	asm volatile("lea -128(%%rsp), %%rsp\n\t" /* the red zone */
		     "pushfq\n\t"
		     "orq $0x100, (%%rsp)\n\t"
		     "popfq\n\t"
		     "movb (%[at]), %%al\n\t"
		     "movb 4096(%[at]), %%al\n\t"
		     "pushfq\n\t"
		     "andq $~0x100, (%%rsp)\n\t"
		     "popfq\n\t"
		     "lea 128(%%rsp), %%rsp"
		     :
		     : [at] "r"(at)
		     : "rax", "memory", "cc");
	return (int)signals;
}

/* Caught accesses do not change the number of traps. */
static void self_stepping(void)
{
	byte *memory = pages(N);
	struct profile p;
	int alone, profiled;

	signal(SIGTRAP, on_signal);
	alone = step(memory);
	p = profile(PAGE_PROFILE_WINDOW, 1, memory, N);
	profiled = step(memory);
	ok(alone > 0, "trap flag: instructions trap (%d times)", alone);
	is(profiled, alone, "trap flag: caught accesses trap as often");
	ok(p.counts[0].reads == 1 && p.counts[1].reads == 1, "trap flag: each access counts once");
	page_profile_stop(p.fd);
	is(step(memory), alone, "trap flag: accesses of a stopped profile trap as often");
	signal(SIGTRAP, SIG_DFL);
	finish(&p);
	munmap((void *)memory, N * PAGE);
}

int main(void)
{
	debugging(PAGE_PROFILE_EPOCH, "epoch");
	debugging(PAGE_PROFILE_WINDOW, "window");
	interrupted();
	self_stepping();
	return done();
}
