/* SPDX-License-Identifier: Apache-2.0 */
/* Plans with frames in the whole runtime: kinds that alternate, forks, and the end of a plan. */
#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include <nlohmann/json.hpp>

#include "frame_fixtures.h"
#include "training.h"

using namespace sentinel;
using Json = nlohmann::json;

namespace
{

/* The operation op2 allocates 1000 bytes in a group that is born in the pool's last page. */
std::string plan_of(size_t pages)
{
	Json tensor = {{"op", "op2"},	{"occurrence", 0}, {"k", 0},	  {"size", 1000},
		       {"position", 2}, {"pool", "long"},  {"offset", 0}, {"node", 0}};
	Json group = {{"offset", 0},
		      {"size", kPage},
		      {"node", 0},
		      {"keep", false},
		      {"frame", (pages - 1) * kPage}};
	Json plan = {{"format", "sentinel-plan"},
		     {"version", 2},
		     {"graph", "x"},
		     {"ops", kOps},
		     {"budget", pages * kPage},
		     {"room", 0},
		     {"frames", pages * kPage},
		     {"reserved", 0},
		     {"arena", kPage},
		     {"tensors", Json::array({tensor})},
		     {"groups", Json::array({group})},
		     {"moves", Json::array()},
		     {"waits", Json::array()},
		     {"uses", Json::array({Json::array({"op2", 0, 2})})}};
	return plan.dump();
}

Json statistics()
{
	return Json::parse(runtime().statistics());
}

size_t arena_pages()
{
	Json resident = statistics()["pools"]["arena"]["resident"];

	return (size_t(resident[0]) + size_t(resident[1])) / kPage;
}

TEST_CASE("kinds with frames share one pool of the size that the installed plan needs")
{
	constexpr int kFirst = 1, kSecond = 2;

	pretend_two_nodes();
	runtime().plan_begin(plan_of(5), kFirst);
	runtime().plan_begin(plan_of(2), kSecond);
	for (int i = 0; i < 3; i++)
		for (int kind : {kFirst, kSecond}) {
			uint64_t number = runtime().step_begin(kind, kind);
			run_ops(start_execution());
			runtime().step_end(number);
			CHECK(statistics()["frames"] == (kind == kFirst ? 5 : 2) * kPage);
			CHECK(statistics()["step"]["crowded"] == 0);
			CHECK(statistics()["step"]["unplanned"] == kOps - 1);
			/* And the home */
			CHECK(arena_pages() == (kind == kFirst ? 6 : 3));
		}
	runtime().plan_end(kSecond);
	CHECK(arena_pages() == 0);
	runtime().plan_end(kFirst);
	CHECK(runtime().memory_usage().live == 0);
}

/* The step's tensor in a window, which holds `value`. */
char *allocate_in_window(const Execution &execution, char value)
{
	OpScope scope(runtime(), reinterpret_cast<const void *>(1), "op2", "MatMul", execution);
	char *p = static_cast<char *>(runtime().allocate(64, 1000));

	CHECK(runtime().in_windows(p));
	memset(p, value, 1000);
	runtime().op_end(scope.run(), {{p, 1000}});
	return p;
}

bool contains(const char *p, char value)
{
	return p[0] == value && memcmp(p, p + 1, 999) == 0;
}

TEST_CASE("a tensor in a window survives forks and the end of its plan")
{
	pretend_two_nodes();
	runtime().plan_begin(plan_of(2));
	uint64_t number = runtime().step_begin();
	char *p = allocate_in_window(start_execution(), 7);
	pid_t child = fork();
	REQUIRE(child >= 0);
	if (child == 0) {
		alarm(60);
		bool same = contains(p, 7);
		memset(p, 8, 1000);
		runtime().release(p);
		_exit(same && run_step() == 0 ? 0 : 1);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(status == 0);
	CHECK(contains(p, 7));
	runtime().step_end(number);
	runtime().plan_end();
	CHECK_FALSE(runtime().in_windows(p));
	CHECK(contains(p, 7));
	memset(p, 9, 1000);
	CHECK(run_step() == 0);
	CHECK(contains(p, 9));
	runtime().release(p);
	CHECK(runtime().memory_usage().live == 0);
}

} // namespace
