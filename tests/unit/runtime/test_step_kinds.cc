/* SPDX-License-Identifier: Apache-2.0 */
/* Kinds of steps: each has its profile and its plan, and one plan at a time uses fast memory. */
#include <doctest/doctest.h>

#include <cstring>
#include <string>

#include <nlohmann/json.hpp>

#include "training.h"

using namespace sentinel;
using Json = nlohmann::json;

namespace
{

constexpr int kFirst = 3, kSecond = 7; /* kinds */

/*
 * A plan for steps whose operation op1 allocates 1000 bytes in the reserved pool and whose op2
 * allocates them in a group that stays on node 0.
 */
std::string plan_of(int reserved_pages)
{
	Json tensor = {{"op", "op1"},	{"occurrence", 0}, {"k", 0},	 {"size", 1000},
		       {"position", 1}, {"pool", "short"}, {"offset", 0}};
	Json tensors = Json::array({tensor});
	tensor["offset"] = (reserved_pages - 1) * kPage;
	tensor["op"] = "op3";
	tensor["position"] = 3;
	tensors.push_back(tensor);
	tensor["op"] = "op2";
	tensor["position"] = 2;
	tensor["pool"] = "long";
	tensor["offset"] = 0;
	tensor["node"] = 0;
	tensors.push_back(tensor);
	Json plan = {{"format", "sentinel-plan"},
		     {"version", 1},
		     {"graph", "x"},
		     {"ops", kOps},
		     {"budget", (reserved_pages + 2) * kPage},
		     {"room", 0},
		     {"reserved", reserved_pages * kPage},
		     {"arena", 2 * kPage},
		     {"tensors", tensors},
		     {"groups",
		      Json::array({{{"offset", 0}, {"size", kPage}, {"node", 0}, {"keep", true}}})},
		     {"moves", Json::array()},
		     {"waits", Json::array()}};
	return plan.dump();
}

void step_of(int kind, int plan_kind)
{
	uint64_t number = runtime().step_begin(kind, plan_kind);

	run_ops(start_execution());
	runtime().step_end(number);
}

/* The pages of a pool in memory; the last step's tensors that were in its plan. */
size_t resident(const char *pool)
{
	Json statistics = Json::parse(runtime().statistics());

	return size_t(statistics["pools"][pool]["resident"][0]) / kPage;
}

int placed()
{
	return kOps - int(Json::parse(runtime().statistics())["step"]["unplanned"]);
}

TEST_CASE("each kind of step executes its own plan")
{
	runtime().plan_begin(plan_of(4), kFirst);
	step_of(kFirst, kFirst);
	CHECK(placed() == 3);
	step_of(kSecond, kSecond);
	CHECK_FALSE(planned());
	runtime().plan_begin(plan_of(2), kSecond);
	for (int i = 0; i < 3; i++) {
		step_of(kFirst, kFirst);
		CHECK(placed() == 3);
		CHECK(resident("reserved") == (i ? 3 : 2)); /* one is the second plan's */
		CHECK(resident("arena") == 1);
		step_of(kSecond, kSecond);
		CHECK(placed() == 3);
		CHECK(resident("arena") == 1);
	}
	Json kinds = Json::parse(runtime().statistics())["kinds"];
	CHECK(kinds["3"]["other_steps"] == 4); /* no step has the graph "x" */
	CHECK(kinds["7"]["other_steps"] == 3);
	runtime().plan_end(kFirst);
	runtime().plan_end(kSecond);
	CHECK(resident("reserved") == 0);
	CHECK(runtime().memory_usage().live == 0);
}

TEST_CASE("a plan that is not installed holds no fast memory")
{
	runtime().plan_begin(plan_of(64), kFirst);
	runtime().plan_begin(plan_of(1), kSecond);
	step_of(kFirst, kFirst);
	CHECK(resident("reserved") == 2);
	step_of(kSecond, kSecond);
	CHECK(resident("reserved") == 1); /* not the first plan's last page */
	CHECK(resident("arena") == 1);
	runtime().plan_end(kSecond);
	CHECK(resident("arena") == 0);
	step_of(kFirst, kFirst);
	CHECK(placed() == 3);
	runtime().plan_end(kFirst);
}

TEST_CASE("a step may use the plan of another kind")
{
	runtime().plan_begin(plan_of(2), kFirst);
	for (int i = 0; i < 4; i++) {
		step_of(kSecond, kFirst);
		CHECK(placed() == 3);
	}
	CHECK_FALSE(runtime().needs_profile(kFirst));
	CHECK_FALSE(runtime().needs_profile(kSecond));
	runtime().plan_begin(plan_of(8), kFirst); /* its tensors are not those of the old plan */
	step_of(kSecond, kFirst);
	CHECK(placed() == 3);
	runtime().plan_end(kFirst);
	step_of(kSecond, kFirst);
	CHECK_FALSE(planned());
}

TEST_CASE("kinds are profiled at the same time")
{
	CHECK(runtime().profile_begin(kFirst));
	CHECK(runtime().profile_begin(kSecond));
	runtime().plan_begin(plan_of(2), 0);
	for (int i = 2; i > 0; i--) {
		CHECK(runtime().profile_steps_left(kFirst) == i);
		step_of(kFirst, kFirst);
		step_of(0, 0);
		CHECK(placed() == 3);
		CHECK(runtime().profile_steps_left(kSecond) == i);
		step_of(kSecond, kSecond);
	}
	for (int kind : {kFirst, kSecond}) {
		CHECK(runtime().profile_steps_left(kind) == 0);
		auto profile = runtime().profile_end(kind);
		REQUIRE(profile);
		CHECK(profile->ops.size() == kOps);
		CHECK(profile->tensors.size() == kOps);
	}
	CHECK(runtime().profile_end(0) == nullptr);
	runtime().plan_end();
}

TEST_CASE("a smaller tensor takes the place of its kind's tensor")
{
	std::string plan = plan_of(2);
	for (size_t at; (at = plan.find("\"size\":1000")) != std::string::npos;)
		plan.replace(at, 11, "\"size\":1001");
	runtime().plan_begin(plan);
	run_step();
	CHECK(placed() == 3);
	runtime().plan_end();
	for (size_t at; (at = plan.find("\"size\":1001")) != std::string::npos;)
		plan.replace(at, 11, "\"size\":999");
	runtime().plan_begin(plan);
	run_step();
	CHECK(placed() == 0);
	runtime().plan_end();
}

TEST_CASE("a tensor that outlives its step keeps its place while another plan is installed")
{
	runtime().plan_begin(plan_of(2), kFirst);
	runtime().plan_begin(plan_of(2), kSecond);
	uint64_t number = runtime().step_begin(kFirst, kFirst);
	Execution training = start_execution();
	char *kept = nullptr;
	{
		OpScope scope(runtime(), &training, "op2", "MatMul", training);
		kept = static_cast<char *>(runtime().allocate(64, 1000));
		memset(kept, 7, 1000);
	}
	runtime().step_end(number);
	step_of(kSecond, kSecond);
	for (int i = 0; i < 1000; i++)
		CHECK(kept[i] == 7);
	runtime().release(kept); /* after its plan was suspended */
	step_of(kFirst, kFirst);
	CHECK(placed() == 3);
	runtime().plan_end(kFirst);
	runtime().plan_end(kSecond);
	CHECK(runtime().memory_usage().live == 0);
}

} // namespace
