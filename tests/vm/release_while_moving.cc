/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread discards pages while another moves them, at varying delays. Prints how many pages
 * moved, were absent and failed.
 */
#include "core/memory.h"

#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

using namespace sentinel;
using Clock = std::chrono::steady_clock;

static void run_on(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

int main()
{
	/* More rounds on a host that rarely runs both threads at once. */
	constexpr int kRounds = 300, kMaxRounds = 20 * kRounds;
	constexpr size_t kEnough = 200 * kPage;
	Mapping memory(64 * kPage);
	std::atomic<int> begun{0}, done{0};
	std::atomic<bool> over{false};
	MoveResult sum;

	memory.prefer(0, memory.size(), kFast);
	std::thread other([&] {
		run_on(0);
		for (int round = 1;; round++) {
			while (begun < round && !over)
				sched_yield();
			if (over)
				return;
			auto until = Clock::now() + std::chrono::microseconds(round % 64 * 60);
			while (Clock::now() < until)
				;
			memory.discard(0, memory.size());
			done = round;
		}
	});
	run_on(1);
	for (int round = 1; round <= kMaxRounds; round++) {
		if (round > kRounds && sum.moved > kEnough && sum.absent > kEnough)
			break;
		memset(memory.base(), 1, memory.size());
		begun = round;
		MoveResult result = move_pages(memory.base(), memory.size(), kSlow);
		sum.moved += result.moved;
		sum.absent += result.absent;
		sum.failed += result.failed;
		while (done < round)
			sched_yield();
	}
	over = true;
	other.join();
	printf("%zu %zu %zu\n", sum.moved / kPage, sum.absent / kPage, sum.failed / kPage);
}
