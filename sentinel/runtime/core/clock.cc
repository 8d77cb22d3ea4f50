/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#include "../../../testbed/timing/client/sentinel_markers.h"

namespace sentinel
{

uint64_t now_ns()
{
	return sentinel_now_ns();
}

bool has_model_clock()
{
	return sentinel_clock_page() != nullptr;
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

uint64_t mark_event()
{
	static uint64_t last;

	sentinel_mark(SENTINEL_TRACE_EVENT);
	return ++last;
}

} // namespace sentinel
