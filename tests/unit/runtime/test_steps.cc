/* SPDX-License-Identifier: Apache-2.0 */
/* Which operations belong to a step, and what a profile records of it. */
#include <doctest/doctest.h>

#include <memory>
#include <thread>

#include "training.h"

using namespace sentinel;

namespace
{

/* The finished profile has every operation of run_step(), each with one scratch tensor. */
void check_profile()
{
	CHECK(runtime().profile_steps_left() == 0);
	auto profile = runtime().profile_end();
	REQUIRE(profile);
	CHECK(profile->ops.size() == kOps);
	CHECK(profile->tensors.size() == kOps);
	for (const ProfiledTensor &t : profile->tensors) {
		CHECK(t.op == t.birth);
		CHECK(t.death == t.birth + 1);
		CHECK(t.scratch);
		CHECK(t.thread == 0);
	}
}

void check_not_traced()
{
	CHECK(runtime().profile_begin());
	for (int i = 0; i < 2; i++)
		CHECK(run_step() == kOps);
	auto profile = runtime().profile_end();
	REQUIRE(profile);
	CHECK_FALSE(bool(profile->trace));
}

TEST_CASE("executions of other threads do not belong to the step")
{
	CHECK(runtime().profile_begin());
	for (int i = 0; i < 2; i++) {
		uint64_t number = runtime().step_begin();
		Execution evaluation;
		std::thread([&evaluation] { evaluation = start_execution(); }).join();
		CHECK_FALSE(run_op(evaluation, "enqueue")); /* begins before the step's */
		CHECK_FALSE(run_op({Runtime::opened_step(), -7}, "fold")); /* a side job */
		Execution training = start_execution();
		CHECK(run_op(training, "op0"));
		CHECK_FALSE(run_op(evaluation, "dequeue"));
		CHECK(run_ops(training, 1) == kOps - 1);
		/* The thread's second execution in the step */
		CHECK_FALSE(run_op(start_execution(), "later"));
		runtime().step_end(number);
	}
	check_profile();
}

TEST_CASE("a traced step precedes the profiled ones and numbers its events")
{
	CHECK(runtime().profile_begin(0, true));
	CHECK(runtime().profile_steps_left() == 3);
	for (int i = 0; i < 3; i++)
		CHECK(run_step() == kOps);
	auto profile = runtime().profile_end();
	REQUIRE(profile);
	REQUIRE(bool(profile->trace));
	const Profile &trace = *profile->trace;
	REQUIRE(trace.ops.size() == kOps);
	REQUIRE(trace.tensors.size() == kOps);
	/* Each operation allocates a tensor and frees it. */
	uint64_t event = trace.ops[0].event;
	CHECK(event > 0);
	for (int i = 0; i < kOps; i++) {
		CHECK(trace.ops[i].event == event++);
		CHECK(trace.tensors[i].born == event++);
		CHECK(trace.tensors[i].died == event++);
	}
	CHECK(profile->ops[0].event == 0); /* of the counted step */
	CHECK_FALSE(trace.resident.empty());
	CHECK(to_json(*profile).find("\"trace\":{\"ops\":") != std::string::npos);
	check_not_traced();
}

TEST_CASE("a failed run is dropped from the profile")
{
	CHECK(runtime().profile_begin());
	for (int i = 0; i < 2; i++) {
		uint64_t number = runtime().step_begin();
		CHECK(run_op(start_execution(), "IteratorGetNext"));
		runtime().step_end(number, false);
		CHECK(runtime().profile_steps_left() == 2 - i);
		CHECK(run_step() == kOps);
	}
	check_profile();
}

TEST_CASE("a step left open is closed by the next one")
{
	CHECK(runtime().profile_begin());
	uint64_t first = runtime().step_begin();
	CHECK(run_op(start_execution(), "IteratorGetNext"));
	CHECK(run_step() == kOps);
	CHECK(run_step() == kOps);
	runtime().step_end(first); /* closed already */
	check_profile();
}

TEST_CASE("nested steps are executed but not counted")
{
	CHECK(runtime().profile_begin());
	for (int i = 0; i < 2; i++) {
		uint64_t outer = runtime().step_begin(), number = runtime().step_begin();
		CHECK(outer == number); /* opened by hand and by the hook */
		Execution training = start_execution();
		CHECK(run_op(training, "op0"));
		{
			OpScope py_func(runtime(), &training, "op1", "PyFunc", training);
			CHECK(py_func.run().step == number);
			uint64_t inner = runtime().step_begin();
			CHECK(inner == 0);
			CHECK(run_ops(start_execution()) == 0);
			runtime().step_end(inner);
			std::thread([] { CHECK(run_step() == 0); }).join();
		}
		CHECK(run_ops(training, 2) == kOps - 2);
		std::thread([number] { runtime().step_end(number); }).join();
		runtime().step_end(outer);
		CHECK_FALSE(run_op(training, "late"));
	}
	CHECK(runtime().profile_steps_left() == 0);
	CHECK(runtime().profile_end()->ops.size() == kOps);
}

TEST_CASE("operations that end after their step are ignored")
{
	for (int variant = 0; variant < 3; variant++) {
		CHECK(runtime().profile_begin());
		uint64_t number = runtime().step_begin();
		Execution training = start_execution();
		run_ops(training);
		auto scope = std::make_unique<OpScope>(runtime(), &training, "enqueue",
						       "QueueEnqueueV2", training);
		OpRun late = scope->run();
		CHECK(late.position == kOps);
		void *p = runtime().allocate(64, 5000);
		scope.reset();
		if (variant == 1) { /* ends while the next step is recorded */
			runtime().step_end(number);
			number = runtime().step_begin();
			run_op(start_execution(), "a");
		} else if (variant == 2) { /* ends in another profile */
			runtime().step_end(number);
			CHECK(runtime().profile_end());
			CHECK(runtime().profile_begin());
			number = runtime().step_begin();
		}
		runtime().record_use(late, p, 5000, true, true);
		runtime().set_name(late, p, "enqueue");
		runtime().op_end(late);
		runtime().release(p);
		runtime().step_end(number);
		runtime().profile_end();
	}
}

TEST_CASE("a profile that ends within a step leaves that step out")
{
	CHECK(runtime().profile_begin());
	uint64_t number = runtime().step_begin();
	Execution training = start_execution();
	CHECK(run_op(training, "a"));
	CHECK_FALSE(runtime().profile_end());
	run_op(training, "b");
	runtime().step_end(number);
	CHECK(runtime().profile_begin());
	CHECK(run_step() == kOps);
	number = runtime().step_begin();
	CHECK(run_op(start_execution(), "a"));
	auto profile = runtime().profile_end(); /* of the first step alone */
	REQUIRE(profile);
	CHECK(profile->ops.size() == kOps);
	CHECK(profile->warnings.size() == 1);
	CHECK_FALSE(runtime().profile_end());
	CHECK(runtime().profile_begin()); /* again within the step */
	runtime().step_end(number);
	CHECK(runtime().profile_steps_left() == 2);
	CHECK(run_step() == kOps);
	CHECK(run_step() == kOps);
	check_profile();
}

/* Operation a runs while b, on another thread, begins and ends; c takes a's output. */
void run_overlapping_step()
{
	uint64_t number = runtime().step_begin();
	Execution training = start_execution();
	char *shared;
	OpRun a_run;
	{
		OpScope a(runtime(), "a", "a", "MatMul", training);
		a_run = a.run();
		std::thread([&] {
			OpScope b(runtime(), "b", "b", "MatMul", training);
			void *p = runtime().allocate(64, 200);
			runtime().record_use(b.run(), p, 200, false, true);
			runtime().release(p);
			runtime().op_end(b.run());
		}).join();
		runtime().release(runtime().allocate(64, 100));
		shared = static_cast<char *>(runtime().allocate(64, 300));
		runtime().record_use(a_run, shared, 300, false, true);
		std::thread([&] { /* a thread of the operation that runs no operation */
				  void *p = runtime().allocate(64, 400);
				  runtime().record_use(a_run, p, 400, false, true);
				  runtime().release(p);
		})
			.join();
	}
	runtime().op_end(a_run);
	{
		OpScope c(runtime(), "c", "c", "MatMul", training);
		runtime().record_use(c.run(), shared, 300, true, false);
		runtime().release(shared);
		runtime().op_end(c.run());
	}
	runtime().step_end(number);
}

TEST_CASE("tensors of overlapping operations belong to their own operation")
{
	CHECK(runtime().profile_begin());
	runtime().set_session_threads(2, 2);
	run_overlapping_step();
	run_overlapping_step();
	runtime().set_session_threads(1, 1);
	auto profile = runtime().profile_end();
	REQUIRE(profile);
	CHECK(profile->ops.size() == 3);
	CHECK(profile->warnings.size() == 1);
	CHECK(profile->tensors.size() == 4);
	for (const ProfiledTensor &t : profile->tensors) {
		CHECK(t.birth == (t.size == 200 ? 1 : 0));
		CHECK(t.op == t.birth);
		CHECK(t.death == (t.size == 300 ? 3 : t.birth + 1));
		CHECK(t.scratch == (t.size != 300));
		CHECK(t.thread == (t.size == 400 ? 1 : 0));
		for (const Use &use : t.uses) {
			CHECK(t.birth <= use.position);
			CHECK(use.position < t.death);
		}
	}
}

} // namespace
