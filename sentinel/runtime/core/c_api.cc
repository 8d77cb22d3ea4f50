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

uint64_t sentinel_step_begin(void)
{
	return guarded<uint64_t>(0, [] { return Runtime::instance().step_begin(); });
}

void sentinel_step_end(uint64_t step, int completed)
{
	guarded(0, [=] {
		Runtime::instance().step_end(step, completed);
		return 0;
	});
}

int sentinel_profile_begin(void)
{
	return guarded(-1, [] { return Runtime::instance().profile_begin() ? 0 : -1; });
}

int sentinel_profile_left(void)
{
	return Runtime::instance().profile_steps_left();
}

char *sentinel_profile_end(void)
{
	return guarded<char *>(nullptr, [] {
		auto profile = Runtime::instance().profile_end();
		return profile ? strdup(to_json(*profile).c_str()) : nullptr;
	});
}

int sentinel_plan_begin(const char *text, size_t length, char *error, size_t size)
{
	try {
		Runtime::instance().plan_begin(std::string(text, length));
		return 0;
	} catch (const std::exception &e) {
		snprintf(error, size, "%s", e.what());
		return -1;
	}
}

void sentinel_plan_end(void)
{
	guarded(0, [] {
		Runtime::instance().plan_end();
		return 0;
	});
}

int sentinel_limit(int interleave, size_t budget)
{
	return Runtime::instance().limit_fast(interleave, budget) ? 0 : -1;
}

int sentinel_reprofile(void)
{
	return Runtime::instance().needs_profile();
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
