/* SPDX-License-Identifier: Apache-2.0 */
/* Migration by frames, in real memory: what moves when, and what tensors contain. */
#include <doctest/doctest.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "frame_fixtures.h"

using namespace sentinel;

namespace
{

TEST_CASE("a demoted group is promoted to another range")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 2, 4), promote(0, 4, 6, kSize)};
	Step step(plan);

	CHECK(step.born(0, 7) == 0);
	CHECK(step.pool_contains(0, 7));
	step.reach(2);
	eventually([&] { return !step.shows(0, 0); });
	CHECK(step.contains(0, 7));
	step.reach(4);
	step.reach(6); /* waits */
	CHECK(step.contains(0, 7));
	CHECK(step.shows(0, kSize));
	step.died(0);
	StepStatistics s = step.end();
	REQUIRE(s.records.size() == 2);
	CHECK(s.records[1].outcome == Outcome::moved);
	CHECK(s.records[0].ready_ns <= s.records[0].begin_ns);
	CHECK(s.records[1].ready_ns <= s.records[1].begin_ns);
	CHECK(s.records[1].ready_ns <= s.records[1].due_ns);
	CHECK(s.records[1].due_ns > s.records[0].due_ns);
	CHECK(s.records[1].reason == Reason::none);
	CHECK(s.records[1].begin_ns <= s.records[1].end_ns);
	CHECK(s.records[1].end_ns <= s.records[1].remap_ns);
	CHECK(s.moves.promoted == kSize);
}

TEST_CASE("a window is remapped only when all earlier uses have ended")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 5, 9)};
	Step step(plan);

	step.born(0, 7);
	step.reach(4);
	std::this_thread::sleep_for(std::chrono::milliseconds(20));
	CHECK(step.shows(0, 0));
	step.reach(5);
	eventually([&] { return !step.shows(0, 0); });
	CHECK(step.contains(0, 7));
	step.died(0);
	CHECK(step.end().moves.demoted == kSize);
}

TEST_CASE("a group whose range is occupied is born at home")
{
	Step step(two_groups());

	CHECK(step.born(0, 7) == 0);
	CHECK(step.born(1, 8) == kSize);
	CHECK(step.contains(0, 7));
	CHECK(step.contains(1, 8));
	step.died(0);
	step.died(1);
	CHECK(step.born(1, 9) == 0);
	CHECK(step.pool_contains(0, 9));
	step.died(1);
	step.end();
}

TEST_CASE("a promotion needs a free range")
{
	Plan plan = two_groups();
	plan.groups[1].node = kSlow;
	plan.groups[1].frame = kNoFrame;
	plan.moves = {promote(1, 2, 4, 0), promote(1, 4, 6, kSize)};
	Step step(plan);

	step.born(0, 7);
	step.born(1, 8);
	step.reach(4);
	step.reach(6);
	CHECK(step.contains(0, 7));
	CHECK(step.contains(1, 8));
	CHECK(step.pool_contains(kSize, 8));
	step.died(0);
	step.died(1);
	StepStatistics s = step.end();
	CHECK(s.records[0].outcome == Outcome::cancelled);
	CHECK(s.records[1].outcome == Outcome::moved);
	CHECK(s.late >= kSize);
}

TEST_CASE(
	"a late demotion is waited for, even if promotions are not, so that births find its range")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 1, 3)};
	Step step(plan);

	step.end();
	step.begin(false);
	step.born(0, 7);
	step.reach(3);
	CHECK(!step.shows(0, 0));
	CHECK(step.contains(0, 7));
	CHECK(step.born(1, 8) == 0);
	CHECK(step.pool_contains(0, 8));
	step.died(0);
	step.died(1);
	CHECK(step.end().records[0].outcome == Outcome::moved);
}

TEST_CASE("a demotion that needs a further operation at its deadline is cancelled")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 3, 3), promote(0, 4, 5, kSize)};
	Step step(plan);

	step.born(0, 7);
	step.executor->advance(3); /* the uses before it have not ended */
	CHECK(step.pool_contains(0, 7));
	step.reach(5);
	CHECK(step.pool_contains(0, 7)); /* it stays in its range */
	step.died(0);
	StepStatistics s = step.end();
	CHECK(s.records[0].outcome == Outcome::cancelled);
	CHECK(s.records[0].reason == Reason::stuck);
	CHECK(s.records[0].ready_ns > s.records[0].due_ns); /* no use had ended */
	CHECK(s.records[0].due_ns > 0);
	CHECK(s.records[1].outcome == Outcome::resident);
	CHECK(s.moves.cancelled == kSize);
	CHECK(s.exposed_ns == 0);
}

TEST_CASE("a demotion needs no copy if the home has the content")
{
	Plan plan = two_groups();
	plan.groups[0].node = kSlow;
	plan.groups[0].frame = kNoFrame;
	plan.moves = {promote(0, 1, 2, 0), demote(0, 2, 3, 9, false)};
	Step step(plan);

	step.born(0, 7);
	step.reach(2);
	step.reach(3);
	eventually([&] { return !step.shows(0, 0); });
	step.died(0);
	StepStatistics s = step.end();
	CHECK(s.moves.promoted == kSize);
	CHECK(s.moves.demoted == kSize);
	CHECK(s.moves.copied == kSize);
}

TEST_CASE("a demotion without a copy copies if the promotion before it was not executed")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 2, 2), promote(0, 2, 3, kSize), demote(0, 4, 5, 9, false)};
	Step step(plan);

	step.born(0, 7);
	step.executor->advance(2); /* cancels the demotion */
	memset(step.at(0), 8, kSize);
	step.reach(5);
	eventually([&] { return !step.shows(0, 0); });
	CHECK(step.contains(0, 8));
	step.died(0);
	StepStatistics s = step.end();
	CHECK(s.records[1].outcome == Outcome::resident);
	CHECK(s.records[2].outcome == Outcome::moved);
	CHECK(s.moves.copied == kSize);
}

TEST_CASE("an unknown user keeps the window and its write drops the copy")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 2, 9)};
	Step step(plan);

	step.born(0, 7);
	step.executor->hold(step.number, 20, {{step.at(0) + 100, 100}});
	step.reach(4);
	std::this_thread::sleep_for(std::chrono::milliseconds(20));
	CHECK(step.shows(0, 0));
	memset(step.at(0), 8, kSize);
	step.executor->op_ended(step.number, 20, -1, {{step.at(0), 100}});
	step.reach(9);
	CHECK(step.contains(0, 8));
	step.died(0);
	StepStatistics s = step.end();
	CHECK(s.records[0].outcome == Outcome::cancelled);
	CHECK(s.records[0].reason == Reason::written);
}

TEST_CASE("a promotion that is late is given up in a step that does not wait")
{
	Plan plan = two_groups();
	plan.groups[1].node = kSlow;
	plan.groups[1].frame = kNoFrame;
	plan.moves = {promote(1, 2, 4, 0)};
	Step step(plan);

	step.end();
	step.begin(false);
	step.born(0, 7); /* occupies the range */
	step.born(1, 8);
	step.reach(4);
	step.died(0);
	step.died(1);
	StepStatistics s = step.end();
	CHECK(s.records[0].outcome == Outcome::cancelled);
	CHECK(s.records[0].reason == Reason::given_up);
	CHECK(s.records[0].due_ns > s.records[0].ready_ns);
	CHECK(s.records[0].begin_ns == 0);
}

TEST_CASE("an unknown user of a tensor keeps all its windows and its write drops their copies")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 2, 9), demote(1, 1, 2, 9)};
	plan.groups[1].frame = kSize;
	Step step(plan);

	step.born(0, 7);
	step.born(1, 7);
	step.executor->hold(step.number, 20, {{step.at(0) + 100, kSize}});
	step.reach(4);
	std::this_thread::sleep_for(std::chrono::milliseconds(20));
	CHECK(step.shows(0, 0));
	CHECK(step.shows(1, kSize));
	memset(step.at(0) + 100, 8, kSize);
	step.executor->op_ended(step.number, 20, -1, {{step.at(0) + 100, kSize}});
	step.reach(9);
	CHECK(step.at(0)[kSize - 1] == 8);
	CHECK(step.at(kSize)[0] == 8);
	step.died(0);
	step.died(1);
	StepStatistics s = step.end();
	CHECK(s.records[0].outcome == Outcome::cancelled);
	CHECK(s.records[1].outcome == Outcome::cancelled);
}

TEST_CASE("moves of a group that does not live are absent")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 2, 3)};
	Step step(plan);

	step.reach(9);
	StepStatistics s = step.end();
	CHECK(s.records[0].outcome == Outcome::absent);
	CHECK(s.moves.absent == kSize);
	CHECK(s.moves.cancelled == 0);
}

} // namespace
