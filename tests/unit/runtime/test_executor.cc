/* SPDX-License-Identifier: Apache-2.0 */
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "core/executor.h"
#include "simulated_memory.h"

using namespace sentinel;

namespace
{

TEST_CASE("the trial keeps the faster of waiting and cancelling")
{
	WaitTrial cancel_faster, wait_faster;

	CHECK(cancel_faster.waits());
	cancel_faster.step(100, 10); /* settles */
	CHECK(cancel_faster.waits());
	cancel_faster.step(100, 10);
	CHECK_FALSE(cancel_faster.waits());
	cancel_faster.step(90, 0);
	CHECK_FALSE(cancel_faster.waits());
	CHECK(std::string(cancel_faster.name()) == "leave");
	wait_faster.step(100, 10);
	wait_faster.step(100, 10);
	wait_faster.step(110, 0);
	CHECK(wait_faster.waits());
	CHECK(std::string(wait_faster.name()) == "wait");
}

TEST_CASE("the trial does not cancel if a step never waited")
{
	WaitTrial trial;

	trial.step(100, 10);
	trial.step(100, 0);
	CHECK(trial.waits());
	CHECK(std::string(trial.name()) == "wait");
}

Plan plan_with_moves()
{
	Plan plan{};

	plan.ops = 10;
	plan.moves = {{-1, kFast, 0, kPage, -1, 2},
		      {3, kSlow, 0, kPage, -1, 8},
		      {5, kFast, 8 * kPage, kPage, -1, 8},
		      {5, kFast, 0, 0, 7, 8},
		      {10, kSlow, 8 * kPage, kPage, -1, 10}};
	for (size_t i = 0; i < plan.moves.size(); i++)
		plan.moves[i].number = 10 * i;
	plan.waits = {2, 8};
	return plan;
}

PageRange resolve(const Move &move)
{
	if (move.tensor >= 0)
		return PageRange();
	return PageRange{page_address(move.offset / kPage), move.size};
}

/* The step's clock is `begin` plus the position plus 1; moves end at once, the last one later. */
void check_records(std::vector<MoveRecord> records, uint64_t begin)
{
	uint64_t ready[] = {0, 4, 6, 0, 10}, due[] = {3, 9, 9, 9, 10};

	std::sort(records.begin(), records.end(),
		  [](const MoveRecord &a, const MoveRecord &b) { return a.move < b.move; });
	REQUIRE(records.size() == 5);
	for (size_t i = 0; i < 5; i++) {
		const MoveRecord &r = records[i];
		CHECK(r.move == 10 * i);
		CHECK(r.due_ns == begin + due[i]);
		if (i == 3) {
			CHECK(r.outcome == Outcome::absent);
			continue;
		}
		CHECK(r.ready_ns == begin + ready[i]);
		CHECK(r.reason == Reason::none);
		if (i == 4) /* submitted at the end of the step */
			continue;
		CHECK(r.outcome == Outcome::moved);
		CHECK(r.begin_ns >= r.ready_ns);
		CHECK(r.end_ns >= r.begin_ns);
	}
}

TEST_CASE("the executor submits each move at its position")
{
	SimulatedMemory memory;
	Plan plan = plan_with_moves();
	std::atomic<uint64_t> now{0};
	Executor executor(plan, resolve, memory.function(), [&] { return now.load(); });

	for (int step = 0; step < 3; step++) {
		memory.log.clear();
		uint64_t begin = now += 100;
		executor.step_begin();
		for (int position = 0; position < 10; position++) {
			now++;
			executor.advance(position);
			executor.drain();
			CHECK(memory.log.size() == size_t(1 + (position >= 3) + (position >= 5)));
		}
		StepStatistics s = executor.step_end();
		executor.drain();
		REQUIRE(memory.log.size() == 4);
		CHECK(memory.log[3].first == 8);
		CHECK(memory.log[3].second == kSlow);
		CHECK(s.unresolved == 1);
		CHECK(s.late == 0);
		CHECK(s.exposed_ns == 0);
		CHECK(s.begin_ns == begin);
		CHECK(s.step_ns == 10);
		CHECK(s.moves.promoted == 2 * kPage);
		check_records(s.records, begin);
	}
}

/* Four steps whose promotions are always late. Returns what the trial chose. */
std::string chosen(uint64_t wait_cost_ns, uint64_t cancel_cost_ns)
{
	SimulatedMemory memory;
	Plan plan = plan_with_moves();
	std::atomic<uint64_t> now{0};
	Executor executor(plan, resolve, memory.function(), [&] { return now.load(); });
	StepStatistics s;

	for (int step = 0; step < 4; step++) {
		memory.set_gate(false);
		executor.step_begin();
		executor.advance(0);
		memory.wait_running(1);
		bool waits = step != 2 && !(step == 3 && cancel_cost_ns < wait_cost_ns);
		std::thread opens([&] {
			/* Usually after the executor has begun to wait; earlier is also valid. */
			std::this_thread::sleep_for(std::chrono::milliseconds(20));
			if (waits)
				now += wait_cost_ns;
			memory.set_gate(true);
		});
		if (!waits)
			now += cancel_cost_ns;
		executor.advance(2);
		if (waits)
			CHECK(memory.node.count(0) == 1);
		opens.join();
		s = executor.step_end();
		executor.drain();
		CHECK(s.late >= kPage);
		CHECK(s.exposed_ns == (waits ? wait_cost_ns : 0));
	}
	return s.trial;
}

TEST_CASE("the executor tries waiting and cancelling")
{
	CHECK(chosen(1000, 10) == "leave");
	CHECK(chosen(10, 1000) == "wait");
}

} // namespace
