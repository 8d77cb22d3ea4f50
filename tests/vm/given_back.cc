/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread gives pages back again and again while another moves them: a move may find a page
 * gone, but no page may stay where it was. Prints the pages that were moved, were absent, and
 * failed two times.
 */
#include "memory.h"

#include <sched.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <thread>

using namespace sentinel;

static void run_on(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

int main()
{
	constexpr int kMoves = 600;
	Mapping memory(64 * kPage);
	std::atomic<bool> stop{false};
	Moved sum;

	memory.prefer(0, memory.size(), kFast);
	std::thread user([&] {
		run_on(0);
		while (!stop) {
			memset(memory.base(), 1, memory.size());
			for (int i = 0; i < 20; i++)
				sched_yield();
			memory.give_back(0, memory.size());
		}
	});
	run_on(1);
	for (int i = 0; i < kMoves; i++) {
		Moved moved = move_pages(memory.base(), memory.size(), i % 2);

		if (moved.failed)
			moved = move_pages(memory.base(), memory.size(), i % 2);
		sum.moved += moved.moved;
		sum.absent += moved.absent;
		sum.failed += moved.failed;
	}
	stop = true;
	user.join();
	printf("%zu %zu %zu\n", sum.moved / kPage, sum.absent / kPage, sum.failed / kPage);
}
