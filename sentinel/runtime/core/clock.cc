/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#include <cstdlib>
#include <cstring>
#include <ctime>

#include "../../../testbed/timing/client/sentinel_markers.h"

namespace sentinel
{

static bool counts_processor_time()
{
	static const bool requested = []() {
		const char *clock = getenv("SENTINEL_CLOCK");
		return clock && !strcmp(clock, "cpu");
	}();
	return requested;
}

uint64_t now_ns()
{
	if (!counts_processor_time())
		return sentinel_now_ns();
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return uint64_t(t.tv_sec) * 1000000000 + uint64_t(t.tv_nsec);
}

const char *clock_name()
{
	if (counts_processor_time())
		return "cpu";
	return sentinel_clock_page() ? "model" : "guest";
}

void Untraced::begin()
{
	if (active_)
		sentinel_mark(SENTINEL_TRACE_PAUSE);
}

void Untraced::end()
{
	if (active_)
		sentinel_mark(SENTINEL_TRACE_RESUME);
}

void mark_remapped(size_t pages)
{
	sentinel_remapped(pages);
}

uint64_t mark_event()
{
	static uint64_t last;

	sentinel_mark(SENTINEL_TRACE_EVENT);
	return ++last;
}

} // namespace sentinel
