/* SPDX-License-Identifier: Apache-2.0 */
#include "move_record.h"

namespace sentinel
{

const char *name_of(Outcome outcome)
{
	static const char *const names[] = {"none",	 "moved",  "resident",
					    "cancelled", "absent", "failed"};
	return names[int(outcome)];
}

const char *name_of(Reason reason)
{
	static const char *const names[] = {nullptr,   "given up", "stuck",	 "step end",
					    "written", "died",	   "superseded", "stopped"};
	return names[int(reason)];
}

} // namespace sentinel
