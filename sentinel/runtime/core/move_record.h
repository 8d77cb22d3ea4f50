/* SPDX-License-Identifier: Apache-2.0 */
/* What became of the moves of a step. */
#ifndef SENTINEL_RUNTIME_MOVE_RECORD_H
#define SENTINEL_RUNTIME_MOVE_RECORD_H

#include <cstddef>
#include <cstdint>
#include <functional>

namespace sentinel
{

using Clock = std::function<uint64_t()>; /* ns */

enum class Outcome : uint8_t {
	none, /* not resolved yet */
	moved,
	resident, /* the group was already there */
	cancelled,
	absent, /* the group did not live */
	failed	/* the system refused the remap, or to move most pages */
};
const char *name_of(Outcome outcome);

/* Why a move was cancelled. */
enum class Reason : uint8_t {
	none,
	given_up, /* late, in a step that does not wait */
	stuck,	  /* it would have needed a further operation to end */
	step_end,
	written,    /* while it was copied */
	died,	    /* the group's last tensor */
	superseded, /* by the opposite move of the same pages */
	stopped	    /* with the plan */
};
const char *name_of(Reason reason); /* nullptr for none */

/* What became of a move, for a timeline. Times in ns on the clock; 0: it did not come to that. */
struct MoveRecord {
	size_t move = 0;		   /* index in the plan */
	uint64_t ready_ns = 0;		   /* the watermark reached `at` */
	uint64_t due_ns = 0;		   /* the step reached `before` */
	uint64_t begin_ns = 0, end_ns = 0; /* of the copy, or of the move by move_pages */
	uint64_t remap_ns = 0;		   /* end of the remap */
	Outcome outcome = Outcome::none;
	Reason reason = Reason::none;
};

} // namespace sentinel

#endif
