/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The moves of groups in a step: which may run, and what became of each. This is only bookkeeping;
 * FrameExecutor copies and remaps. Not thread-safe.
 */
#ifndef SENTINEL_RUNTIME_FRAME_MOVES_H
#define SENTINEL_RUNTIME_FRAME_MOVES_H

#include <cstddef>
#include <cstdint>
#include <vector>

#include "frame_groups.h"
#include "memory.h"
#include "move_record.h"
#include "plan.h"
#include "watermark.h"

namespace sentinel
{

/* Something that a migration thread can do now. */
struct FrameWork {
	enum class Kind : uint8_t {
		none,
		start,	/* begin to copy a move */
		copy,	/* copy [offset, offset + size) of its group */
		remap,	/* end it */
		resolve /* nothing is to be done: the group is already there */
	};
	Kind kind;
	size_t move = 0, offset = 0, size = 0;
};

class FrameMoves
{
public:
	enum class Stage : uint8_t { waiting, copying, copied, remapping, resolved };
	struct State {
		Stage stage = Stage::waiting;
		bool copies = true; /* false: the home is current */
		bool cancelled = false;
		size_t next = 0;   /* offset of the next chunk */
		size_t copied = 0; /* bytes */
		int running = 0;   /* chunks that are being copied */
		MoveRecord record;
	};

	/* `plan` outlives it. */
	explicit FrameMoves(const Plan &plan);

	/* Nothing may be in flight. */
	void step_begin();
	/* Indices, in the plan's order, of unresolved moves that are due at `position`, now. */
	std::vector<size_t> take_due(int position, uint64_t now);
	/* No move is due before this position. */
	int next_due() const;

	/* The watermark may have risen: note which moves may begin from now on. */
	void note_ready(const Clock &clock);

	/* The first thing to do, in the plan's order. */
	FrameWork next_work();
	void start(size_t move, uint64_t now);
	/* The caller copies this chunk, and then calls chunk_copied(). */
	void take_chunk(const FrameWork &work);
	void chunk_copied(size_t move, size_t size, uint64_t now);
	/* Whether it is copied and its window may be remapped. */
	bool may_remap(size_t move) const;
	void remapped(size_t move, bool success, uint64_t now);
	/* Resolve a move that needs nothing done. False if it is not such a move. */
	bool resolve_resident(size_t move);
	/* Resolve a move that is not being remapped; a running chunk delays that. */
	void cancel(size_t move, Reason reason);

	/* Whether the move can end although no further operation does. */
	bool can_finish(size_t move) const;
	/* The group's move that has begun and is not resolved; size() if there is none. */
	size_t in_flight(size_t group) const;

	size_t size() const
	{
		return moves_.size();
	}
	const Move &operator[](size_t move) const
	{
		return moves_[move];
	}
	const State &state(size_t move) const
	{
		return states_[move];
	}
	State &state(size_t move)
	{
		return states_[move];
	}
	size_t group_of(size_t move) const
	{
		return group_of_[move];
	}

	FrameGroups groups;
	Watermark watermark;

private:
	bool is_next_of_group(size_t move) const;
	bool is_resident(size_t move) const;
	bool may_start(size_t move) const;
	void resolve(size_t move, Outcome outcome);

	std::vector<Move> moves_; /* of groups, in the plan's order */
	std::vector<size_t> group_of_;
	std::vector<size_t> by_before_; /* indices in order of `before` */
	std::vector<size_t> plan_index_;
	std::vector<State> states_;
	size_t first_ = 0;	/* all moves before it are resolved */
	size_t next_ready_ = 0; /* the first move whose `at` the watermark has not reached */
	size_t next_due_ = 0;	/* index in by_before_ */
};

} // namespace sentinel

#endif
