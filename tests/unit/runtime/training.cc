/* SPDX-License-Identifier: Apache-2.0 */
#include "training.h"

#include <atomic>
#include <cstring>
#include <functional>

#include <nlohmann/json.hpp>

using namespace sentinel;

const char *const kPlan =
	"{\"format\": \"sentinel-plan\", \"version\": 1, \"graph\": \"x\", \"ops\": 40,"
	" \"budget\": 8192, \"room\": 0, \"reserved\": 8192, \"arena\": 4096,"
	" \"tensors\": [{\"op\": \"op1\", \"occurrence\": 0, \"k\": 0, \"size\": 1000,"
	" \"position\": 1, \"pool\": \"short\", \"offset\": 64}], \"groups\": [],"
	" \"moves\": [], \"waits\": []}";

Runtime &runtime()
{
	return Runtime::instance();
}

Execution start_execution()
{
	static std::atomic<int64_t> next_id{1};

	return {Runtime::opened_step(), next_id++};
}

bool run_op(const Execution &execution, const std::string &name, const char *type)
{
	/* Any address identifies a kernel, as long as it stays the same. */
	auto kernel = reinterpret_cast<const void *>(std::hash<std::string>()(name));
	OpRun run;

	if (!runtime().tracking())
		return false;
	{
		OpScope scope(runtime(), kernel, name, type, execution);
		run = scope.run();
		void *p = runtime().allocate(64, 1000);
		memset(p, 1, 1000);
		runtime().record_use(run, p, 1000, false, true);
		runtime().release(p);
	}
	runtime().op_end(run);
	return run.step != 0;
}

int run_ops(const Execution &execution, int first)
{
	int in_step = 0;

	for (int i = first; i < kOps; i++)
		in_step += run_op(execution, "op" + std::to_string(i));
	return in_step;
}

int run_step()
{
	uint64_t number = runtime().step_begin();
	int in_step = run_ops(start_execution());

	runtime().step_end(number);
	return in_step;
}

bool planned()
{
	return nlohmann::json::parse(runtime().statistics())["planned"];
}
