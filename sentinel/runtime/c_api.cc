/* SPDX-License-Identifier: Apache-2.0 */
#include "c_api.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "registration.h"
#include "runtime.h"

using sentinel::Runtime;

int sentinel_registered(void)
{
	return sentinel::registered();
}

int sentinel_devices(void)
{
	return sentinel::devices();
}

void sentinel_step_begin(void)
{
	Runtime::instance().step_begin();
}

void sentinel_step_end(void)
{
	Runtime::instance().step_end();
}

void sentinel_profile_begin(void)
{
	Runtime::instance().profile_begin();
}

char *sentinel_profile_end(void)
{
	auto profile = Runtime::instance().profile_end();

	return profile ? strdup(to_json(*profile).c_str()) : nullptr;
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
	Runtime::instance().plan_end();
}

int sentinel_limit(int interleave, size_t budget)
{
	return Runtime::instance().limit(interleave, budget) ? 0 : -1;
}

int sentinel_reprofile(void)
{
	return Runtime::instance().reprofile();
}

char *sentinel_statistics(void)
{
	return strdup(Runtime::instance().statistics().c_str());
}

void sentinel_free(char *text)
{
	free(text);
}
