/* SPDX-License-Identifier: Apache-2.0 */
/* The begin and end of plans, and systems that refuse them memory. */
#include <doctest/doctest.h>

#include <sys/resource.h>

#include <cstring>
#include <fstream>
#include <string>

#include <nlohmann/json.hpp>

#include "training.h"

using namespace sentinel;

namespace
{

TEST_CASE("a plan ends with the open step")
{
	runtime().plan_begin(kPlan);
	CHECK(run_step() == kOps);
	CHECK(planned());
	uint64_t number = runtime().step_begin();
	Execution training = start_execution();
	CHECK(run_op(training, "op0"));
	runtime().plan_end();
	CHECK(planned());
	CHECK(run_op(training, "op1"));
	runtime().step_end(number);
	CHECK_FALSE(planned());
	CHECK(run_step() == 0); /* not tracked */
}

TEST_CASE("the last of several plans is executed")
{
	runtime().plan_begin(kPlan);
	runtime().plan_end();
	run_step();
	CHECK_FALSE(planned());
	runtime().plan_begin(kPlan);
	uint64_t number = runtime().step_begin();
	runtime().plan_end();
	runtime().plan_begin(kPlan);
	runtime().step_end(number);
	CHECK(run_step() == kOps);
	CHECK(planned());
	runtime().plan_end();
}

TEST_CASE("a further run of an operation takes the place of another run")
{
	runtime().plan_begin(kPlan);
	uint64_t number = runtime().step_begin();
	Execution training = start_execution();
	for (int run = 0; run < 3; run++)
		CHECK(run_op(training, "op1"));
	CHECK(run_op(training, "op2"));
	runtime().step_end(number);
	auto step = nlohmann::json::parse(runtime().statistics())["step"];
	CHECK(step["substituted"] == 2);
	CHECK(step["busy"] == 0);
	CHECK(step["unplanned"] == 1);
	runtime().plan_end();
}

TEST_CASE("a run of an operation does not take an occupied place")
{
	runtime().plan_begin(kPlan);
	uint64_t number = runtime().step_begin();
	Execution training = start_execution();
	auto kernel = reinterpret_cast<const void *>(1);
	void *p, *q;
	{
		OpScope scope(runtime(), kernel, "op1", "MatMul", training);
		p = runtime().allocate(64, 1000);
	}
	{
		OpScope scope(runtime(), kernel, "op1", "MatMul", training);
		q = runtime().allocate(64, 1000);
	}
	REQUIRE(p);
	REQUIRE(q);
	CHECK(p != q);
	runtime().release(p);
	runtime().release(q);
	runtime().step_end(number);
	auto step = nlohmann::json::parse(runtime().statistics())["step"];
	CHECK(step["substituted"] == 0);
	CHECK(step["busy"] == 1);
	runtime().plan_end();
}

/* Limit the address space to `bytes` more than now. */
void limit_addresses(size_t bytes)
{
	std::ifstream statm("/proc/self/statm");
	size_t pages;
	statm >> pages;
	struct rlimit limit = {pages * kPage + bytes, RLIM_INFINITY};
	REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
}

/* The error of loading a plan, or "". */
std::string plan_error(const std::string &plan)
{
	try {
		runtime().plan_begin(plan);
	} catch (const std::exception &e) {
		return e.what();
	}
	return "";
}

TEST_CASE("malloc serves all allocations if the pools have no addresses")
{
	limit_addresses(8 << 20);
	CHECK(run_step() == 0);
	void *p = runtime().allocate(64, 100000), *q = runtime().allocate(4 * kPage, 10);
	REQUIRE(p);
	CHECK(reinterpret_cast<uintptr_t>(q) % (4 * kPage) == 0);
	memset(p, 1, 100000);
	CHECK(runtime().allocate(64, size_t(1) << 40) == nullptr);
	CHECK(runtime().allocate(64, SIZE_MAX) == nullptr);
	CHECK(plan_error(kPlan).find("ulimit -v") != std::string::npos);
	CHECK_FALSE(runtime().profile_begin());
	CHECK(run_step() == 0);
	runtime().release(p);
	runtime().release(q);
	CHECK(runtime().memory_usage().live == 0);
	auto statistics = nlohmann::json::parse(runtime().statistics());
	CHECK(statistics["pools"]["system"]["allocations"] == 2);
}

TEST_CASE("a plan without addresses for its pools or threads is refused")
{
	run_step();
	std::string large = kPlan;
	large.replace(large.find("\"reserved\": 8192"), 16, "\"reserved\": 536870912");
	limit_addresses(64 << 20);
	CHECK(plan_error(large).find("536875008 bytes of addresses") != std::string::npos);
	for (size_t left = 0; left <= 8; left += 4) { /* not enough for the threads' stacks */
		limit_addresses(left << 20);
		std::string error = plan_error(kPlan);
		CHECK(error != "");
		CHECK(error.find('\n') == std::string::npos);
	}
	CHECK(run_step() == 0);
	CHECK_FALSE(planned());
}

} // namespace
