/* SPDX-License-Identifier: Apache-2.0 */
/* Which operations are the step's, and what steps, profiles and plans do that end at odd times. */
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "core/runtime.h"
#include "check.h"

using namespace sentinel;

namespace
{

Runtime &runtime()
{
	return Runtime::instance();
}

constexpr int kOps = 40;
std::atomic<int64_t> next_id{1}; /* of executions */

/* A session run that the calling thread starts now. */
Execution start()
{
	return {Runtime::step_here(), next_id++};
}

/* Runs an operation; whether it was the step's. */
bool op(const Execution &execution, const std::string &name, const char *type = "MatMul")
{
	/* Any address does, as long as it is the same each time. */
	auto kernel = reinterpret_cast<const void *>(std::hash<std::string>()(name));

	if (!runtime().watching())
		return false;
	OpRun run;
	{
		OpScope scope(runtime(), kernel, name, type, execution);
		run = scope.run();
		void *p = runtime().allocate(64, 1000);
		memset(p, 1, 1000);
		runtime().used(run, p, 1000, false, true);
		runtime().release(p);
	}
	runtime().op_end(run);
	return run.step != 0;
}

/* Runs all of a network's operations; how many were the step's. */
int run(const Execution &execution)
{
	int own = 0;

	for (int i = 0; i < kOps; i++)
		own += op(execution, "op" + std::to_string(i));
	return own;
}

int step()
{
	uint64_t number = runtime().step_begin();
	int own = run(start());
	runtime().step_end(number);
	return own;
}

/* The profile, which has every operation of a step. */
void check_profile()
{
	CHECK(runtime().profile_left() == 0);
	auto profile = runtime().profile_end();
	CHECK(profile && profile->ops.size() == kOps && profile->tensors.size() == kOps);
	for (const ProfiledTensor &t : profile->tensors)
		CHECK(t.op == t.birth && t.death == t.birth + 1 && t.scratch && t.thread == 0);
}

/* ---- identity ---- */

void others_begin_first()
{
	CHECK(runtime().profile_begin());
	for (int i = 0; i < 2; i++) {
		uint64_t number = runtime().step_begin();
		Execution evaluation;
		std::thread([&evaluation] { evaluation = start(); }).join();
		CHECK(!op(evaluation, "enqueue"));		/* a queue runner is faster */
		CHECK(!op({Runtime::step_here(), -7}, "fold")); /* a side job of the run itself */
		Execution training = start();
		CHECK(op(training, "op0") && !op(evaluation, "dequeue"));
		int own = 1;
		for (int j = 1; j < kOps; j++)
			own += op(training, "op" + std::to_string(j));
		CHECK(own == kOps);
		CHECK(!op(start(), "later")); /* another run of the same thread, in the same step */
		runtime().step_end(number);
	}
	check_profile();
}

void runs_that_fail()
{
	CHECK(runtime().profile_begin());
	for (int i = 0; i < 2; i++) {
		uint64_t number = runtime().step_begin();
		CHECK(op(start(), "IteratorGetNext"));
		runtime().step_end(number, false);
		CHECK(runtime().profile_left() == 2 - i);
		CHECK(step() == kOps);
	}
	check_profile();
}

void steps_that_nobody_ends()
{
	CHECK(runtime().profile_begin());
	uint64_t first = runtime().step_begin();
	CHECK(op(start(), "IteratorGetNext"));
	CHECK(step() == kOps && step() == kOps);
	runtime().step_end(first); /* long over */
	check_profile();
}

void steps_within_steps()
{
	CHECK(runtime().profile_begin());
	for (int i = 0; i < 2; i++) {
		uint64_t around = runtime().step_begin(), number = runtime().step_begin();
		CHECK(around == number); /* by hand around what is watched anyway */
		Execution training = start();
		CHECK(op(training, "op0"));
		{
			OpScope py_func(runtime(), &training, "op1", "PyFunc", training);
			CHECK(py_func.run().step == number);
			uint64_t inner = runtime().step_begin();
			CHECK(inner == 0 && run(start()) == 0);
			runtime().step_end(inner);
			std::thread([] { CHECK(step() == 0); }).join();
		}
		for (int j = 2; j < kOps; j++)
			CHECK(op(training, "op" + std::to_string(j)));
		std::thread([number] { runtime().step_end(number); }).join();
		runtime().step_end(around);
		CHECK(!op(training, "late"));
	}
	CHECK(runtime().profile_left() == 0 && runtime().profile_end()->ops.size() == kOps);
}

/* An operation of a step before is done, and its tensors die, while another one is recorded. */
void operations_that_end_late()
{
	for (int around = 0; around < 3; around++) {
		CHECK(runtime().profile_begin());
		uint64_t number = runtime().step_begin();
		Execution training = start();
		run(training);
		auto scope = std::make_unique<OpScope>(runtime(), &training, "enqueue",
						       "QueueEnqueueV2", training);
		OpRun late = scope->run();
		CHECK(late.position == kOps);
		void *p = runtime().allocate(64, 5000);
		scope.reset();
		if (around == 1) {
			runtime().step_end(number);
			number = runtime().step_begin();
			op(start(), "a");
		} else if (around == 2) {
			runtime().step_end(number);
			CHECK(runtime().profile_end());
			CHECK(runtime().profile_begin());
			number = runtime().step_begin();
		}
		runtime().used(late, p, 5000, true, true);
		runtime().named(late, p, "enqueue");
		runtime().op_end(late);
		runtime().release(p);
		runtime().step_end(number);
		runtime().profile_end();
	}
}

void profiles_that_end_in_a_step()
{
	CHECK(runtime().profile_begin());
	uint64_t number = runtime().step_begin();
	Execution training = start();
	CHECK(op(training, "a"));
	CHECK(!runtime().profile_end());
	op(training, "b");
	runtime().step_end(number);
	CHECK(runtime().profile_begin() && step() == kOps);
	number = runtime().step_begin();
	CHECK(op(start(), "a"));
	auto profile = runtime().profile_end(); /* of the first step alone */
	CHECK(profile && profile->ops.size() == kOps && profile->warnings.size() == 1);
	CHECK(runtime().profile_begin()); /* again, within the step */
	runtime().step_end(number);
	CHECK(runtime().profile_left() == 2 && step() == kOps && step() == kOps);
	check_profile();
}

/* Two threads run a step's operations: what is born belongs to its own operation. */
void operations_at_once()
{
	CHECK(runtime().profile_begin());
	runtime().threads(2, 2);
	for (int i = 0; i < 2; i++) {
		uint64_t number = runtime().step_begin();
		Execution training = start();
		char *shared;
		OpRun first, second;
		{
			OpScope a(runtime(), "a", "a", "MatMul", training);
			first = a.run();
			std::thread([&] { /* begins later, ends sooner */
					  OpScope b(runtime(), "b", "b", "MatMul", training);
					  second = b.run();
					  void *p = runtime().allocate(64, 200);
					  runtime().used(second, p, 200, false, true);
					  runtime().release(p);
					  runtime().op_end(second);
			})
				.join();
			void *p = runtime().allocate(64, 100);
			runtime().release(p);
			shared = static_cast<char *>(runtime().allocate(64, 300));
			runtime().used(first, shared, 300, false, true);
			std::thread([&] { /* of the operation's own, which does not know it */
					  char *q =
						  static_cast<char *>(runtime().allocate(64, 400));
					  runtime().used(first, q, 400, false, true);
					  runtime().release(q);
			})
				.join();
		}
		runtime().op_end(first);
		{
			OpScope c(runtime(), "c", "c", "MatMul", training);
			runtime().used(c.run(), shared, 300, true, false);
			runtime().release(shared);
			runtime().op_end(c.run());
		}
		runtime().step_end(number);
	}
	runtime().threads(1, 1);
	auto profile = runtime().profile_end();
	CHECK(profile && profile->ops.size() == 3 && profile->warnings.size() == 1);
	for (const ProfiledTensor &t : profile->tensors) {
		CHECK(t.birth == (t.size == 200 ? 1 : 0) && t.op == t.birth);
		CHECK(t.death == (t.size == 300 ? 3 : t.birth + 1));
		CHECK(t.scratch == (t.size != 300) && t.thread == (t.size == 400));
		for (const Use &use : t.uses)
			CHECK(t.birth <= use.position && use.position < t.death);
	}
	CHECK(profile->tensors.size() == 4);
}

/* ---- a plan, and the system's refusals ---- */

const char *const kPlan =
	"{\"format\": \"sentinel-plan\", \"version\": 1, \"graph\": \"x\", \"ops\": 40,"
	" \"budget\": 8192, \"room\": 0, \"reserved\": 8192, \"arena\": 4096,"
	" \"tensors\": [{\"op\": \"op1\", \"occurrence\": 0, \"k\": 0, \"size\": 1000,"
	" \"position\": 1, \"pool\": \"short\", \"offset\": 64}], \"groups\": [],"
	" \"moves\": [], \"waits\": []}";

bool planned()
{
	return runtime().statistics().find("\"planned\": true") != std::string::npos;
}

void plans_that_end_in_a_step()
{
	runtime().plan_begin(kPlan);
	CHECK(step() == kOps && planned());
	uint64_t number = runtime().step_begin();
	Execution training = start();
	CHECK(op(training, "op0"));
	runtime().plan_end();
	CHECK(planned() && op(training, "op1"));
	runtime().step_end(number);
	CHECK(!planned());
	CHECK(step() == 0); /* nothing to watch for */
	runtime().plan_begin(kPlan);
	runtime().plan_end();
	step();
	CHECK(!planned());
	runtime().plan_begin(kPlan);
	number = runtime().step_begin();
	runtime().plan_end();
	runtime().plan_begin(kPlan); /* the last word counts */
	runtime().step_end(number);
	CHECK(step() == kOps && planned());
	runtime().plan_end();
}

/* So much address space is left. */
void leave_addresses(size_t bytes)
{
	std::ifstream statm("/proc/self/statm");
	size_t pages;
	statm >> pages;
	struct rlimit limit = {pages * kPage + bytes, RLIM_INFINITY};
	CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

std::string refusal(const std::string &plan)
{
	try {
		runtime().plan_begin(plan);
	} catch (const std::exception &e) {
		return e.what();
	}
	return "";
}

void no_addresses_for_pools()
{
	leave_addresses(8 << 20);
	CHECK(step() == 0);
	void *p = runtime().allocate(64, 100000), *q = runtime().allocate(4 * kPage, 10);
	CHECK(p && reinterpret_cast<uintptr_t>(q) % (4 * kPage) == 0);
	memset(p, 1, 100000);
	CHECK(!runtime().allocate(64, size_t(1) << 40) && !runtime().allocate(64, SIZE_MAX));
	CHECK(refusal(kPlan).find("ulimit -v") != std::string::npos);
	CHECK(!runtime().profile_begin());
	CHECK(step() == 0);
	runtime().release(p);
	runtime().release(q);
	CHECK(runtime().live() == 0);
	CHECK(runtime().statistics().find("\"system\": {\"allocations\": 2") != std::string::npos);
}

void no_addresses_for_a_plan()
{
	step();
	/* Its pools, or the stacks of its threads */
	std::string large = kPlan;
	large.replace(large.find("\"reserved\": 8192"), 16, "\"reserved\": 536870912");
	leave_addresses(64 << 20);
	CHECK(refusal(large).find("536875008 bytes of addresses") != std::string::npos);
	for (size_t left = 0; left <= 8; left += 4) {
		leave_addresses(left << 20);
		CHECK(refusal(kPlan).find('\n') == std::string::npos && refusal(kPlan) != "");
	}
	CHECK(step() == 0 && !planned());
}

/* ---- threads ---- */

/* Everybody at once: trains in several threads, evaluates, profiles, plans, forks. */
void everything_at_once()
{
	std::atomic<bool> over{false};
	std::atomic<int> managed{0};
	std::vector<std::thread> threads;

	for (int i = 0; i < 3; i++)
		threads.emplace_back([&] {
			while (!over) {
				uint64_t number = runtime().step_begin();
				int own = run(start());
				CHECK(own == 0 || (number && own <= kOps));
				managed += own == kOps;
				runtime().step_end(number, own % 7 != 0);
			}
		});
	threads.emplace_back([&] {
		while (!over)
			CHECK(run(start()) == 0);
	});
	threads.emplace_back([&] {
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
	});
	while (managed < 50)
		std::this_thread::yield();
	over = true;
	for (std::thread &thread : threads)
		thread.join();
}

/* A child that does all that the parent does, while other threads are in the midst of it. */
void children()
{
	std::atomic<bool> over{false};
	std::thread other([&] {
		while (!over)
			step();
	});

	runtime().plan_begin(kPlan);
	void *kept = runtime().allocate(64, 9000);
	for (int i = 0; i < 20; i++) {
		uint64_t number = i % 2 ? runtime().step_begin() : 0;
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			alarm(60);
			CHECK(step() == 0 && !planned());
			runtime().step_end(number);
			CHECK(!runtime().profile_begin() && refusal(kPlan) != "");
			runtime().plan_end();
			runtime().profile_end();
			void *p = runtime().allocate(64, 9000);
			memset(p, 1, 9000);
			runtime().release(p);
			runtime().release(kept);
			_exit(0);
		}
		int status;
		CHECK(waitpid(child, &status, 0) == child && status == 0);
		runtime().step_end(number);
	}
	CHECK(planned() && runtime().statistics().find("\"forks\": 20") != std::string::npos);
	over = true;
	other.join();
	runtime().release(kept);
}

const std::map<std::string, void (*)()> kCases = {
	{"others_begin_first", others_begin_first},
	{"runs_that_fail", runs_that_fail},
	{"steps_that_nobody_ends", steps_that_nobody_ends},
	{"steps_within_steps", steps_within_steps},
	{"operations_that_end_late", operations_that_end_late},
	{"profiles_that_end_in_a_step", profiles_that_end_in_a_step},
	{"operations_at_once", operations_at_once},
	{"plans_that_end_in_a_step", plans_that_end_in_a_step},
	{"no_addresses_for_pools", no_addresses_for_pools},
	{"no_addresses_for_a_plan", no_addresses_for_a_plan},
	{"everything_at_once", everything_at_once},
	{"children", children},
};

} // namespace

/* identity [CASE]: runs one case, in a process of its own; without, names them all. */
void identity(const std::vector<std::string> &arguments)
{
	if (!arguments.empty()) {
		kCases.at(arguments[0])();
		return;
	}
	for (const auto &each : kCases)
		std::cout << each.first << "\n";
}
