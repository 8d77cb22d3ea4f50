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

} // namespace sentinel
