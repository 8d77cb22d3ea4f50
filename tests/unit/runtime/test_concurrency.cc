/* SPDX-License-Identifier: Apache-2.0 */
/* Threads and forked children that use the runtime at the same time. */
#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "training.h"

using namespace sentinel;

namespace
{

/* Begin and end profiles and plans at random until `over`. */
void change_plans(const std::atomic<bool> &over)
{
	std::mt19937 random(4);

	while (!over) {
		switch (random() % 6) {
		case 0:
			runtime().profile_begin();
			break;
		case 1:
			runtime().profile_end();
			break;
		case 2:
			runtime().plan_end();
			break;
		case 3:
			runtime().statistics();
			break;
		default:
			runtime().plan_begin(kPlan);
		}
	}
}

TEST_CASE("threads train and evaluate while others profile and plan")
{
	std::atomic<bool> over{false};
	std::atomic<int> managed{0};
	std::vector<std::thread> threads;

	for (int i = 0; i < 3; i++)
		threads.emplace_back([&] {
			while (!over) {
				uint64_t number = runtime().step_begin();
				int in_step = run_ops(start_execution());
				CHECK((in_step == 0 || number));
				CHECK(in_step <= kOps);
				managed += in_step == kOps;
				runtime().step_end(number, in_step % 7 != 0);
			}
		});
	threads.emplace_back([&] {
		while (!over)
			CHECK(run_ops(start_execution()) == 0);
	});
	threads.emplace_back([&] { change_plans(over); });
	while (managed < 50)
		std::this_thread::yield();
	over = true;
	for (std::thread &thread : threads)
		thread.join();
}

/* In a forked child: everything that the parent may do, unmanaged. */
bool child_is_served(uint64_t parents_step, void *parents_block)
{
	bool served = run_step() == 0 && !planned();

	runtime().step_end(parents_step);
	served &= !runtime().profile_begin();
	try {
		runtime().plan_begin(kPlan);
		served = false;
	} catch (const std::exception &) {
	}
	runtime().plan_end();
	runtime().profile_end();
	void *p = runtime().allocate(64, 9000);
	memset(p, 1, 9000);
	runtime().release(p);
	runtime().release(parents_block);
	return served;
}

TEST_CASE("a forked child is served while threads of the parent train")
{
	std::atomic<bool> over{false};
	std::thread other([&] {
		while (!over)
			run_step();
	});

	runtime().plan_begin(kPlan);
	void *block = runtime().allocate(64, 9000);
	for (int i = 0; i < 20; i++) {
		uint64_t number = i % 2 ? runtime().step_begin() : 0;
		pid_t child = fork();
		REQUIRE(child >= 0);
		if (child == 0) {
			alarm(60);
			_exit(child_is_served(number, block) ? 0 : 1);
		}
		int status;
		CHECK(waitpid(child, &status, 0) == child);
		CHECK(status == 0);
		runtime().step_end(number);
	}
	CHECK(planned());
	CHECK(nlohmann::json::parse(runtime().statistics())["forks"] == 20);
	over = true;
	other.join();
	runtime().release(block);
}

} // namespace
