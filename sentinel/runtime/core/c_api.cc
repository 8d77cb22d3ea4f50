/* SPDX-License-Identifier: Apache-2.0 */
#include "c_api.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include "framework.h"
#include "runtime.h"

using sentinel::Runtime;

namespace
{

/* The result of `function`, or `failed` and a log line if it throws. */
template <typename T, typename F> T guarded(T failed, F function)
{
	try {
		return function();
	} catch (const std::exception &e) {
		Runtime::log(std::string("training continues unmanaged: ") + e.what());
		return failed;
	}
}

} // namespace

int sentinel_registered(void)
{
	return sentinel::registered();
}

int sentinel_devices(void)
{
	return sentinel::devices();
}

uint64_t sentinel_step_begin(int kind, int plan_kind)
{
	return guarded<uint64_t>(0,
				 [=] { return Runtime::instance().step_begin(kind, plan_kind); });
}

void sentinel_step_end(uint64_t step, int completed)
{
	guarded(0, [=] {
		Runtime::instance().step_end(step, completed);
		return 0;
	});
}

void sentinel_step_awaits(uint64_t step, const char *operation)
{
	guarded(0, [=] {
		Runtime::instance().step_awaits(step, operation);
		return 0;
	});
}

int sentinel_profile_begin(int kind, int traced)
{
	return guarded(-1,
		       [=] { return Runtime::instance().profile_begin(kind, traced) ? 0 : -1; });
}

int sentinel_profile_left(int kind)
{
	return Runtime::instance().profile_steps_left(kind);
}

char *sentinel_profile_end(int kind)
{
	return guarded<char *>(nullptr, [=] {
		auto profile = Runtime::instance().profile_end(kind);
		return profile ? strdup(to_json(*profile).c_str()) : nullptr;
	});
}

int sentinel_plan_begin(int kind, const char *text, size_t length, char *error, size_t size)
{
	try {
		Runtime::instance().plan_begin(std::string(text, length), kind);
		return 0;
	} catch (const std::exception &e) {
		snprintf(error, size, "%s", e.what());
		return -1;
	}
}

void sentinel_plan_end(int kind)
{
	guarded(0, [=] {
		Runtime::instance().plan_end(kind);
		return 0;
	});
}

void sentinel_leave_fast_memory(void)
{
	guarded(0, [] {
		Runtime::instance().leave_fast_memory();
		return 0;
	});
}

int sentinel_limit(int interleave, size_t budget)
{
	return Runtime::instance().limit_fast(interleave, budget) ? 0 : -1;
}

int sentinel_reprofile(int kind)
{
	return Runtime::instance().needs_profile(kind);
}

char *sentinel_statistics(void)
{
	return guarded<char *>(nullptr,
			       [] { return strdup(Runtime::instance().statistics().c_str()); });
}

void sentinel_free(char *text)
{
	free(text);
}
