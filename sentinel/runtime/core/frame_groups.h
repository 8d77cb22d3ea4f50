/* SPDX-License-Identifier: Apache-2.0 */
/* The groups of a plan with frames, and their ranges of the fast frame pool. Not thread-safe. */
#ifndef SENTINEL_RUNTIME_FRAME_GROUPS_H
#define SENTINEL_RUNTIME_FRAME_GROUPS_H

#include <cstddef>
#include <map>
#include <vector>

#include "plan.h"

namespace sentinel
{

struct FrameGroup {
	size_t offset, size;
	size_t birth_frame;	      /* kNoFrame: it is born at home */
	size_t shown = kNoFrame;      /* what its window shows: a frame range, or the home */
	size_t occupied = kNoFrame;   /* the frame range that it has, or is promoted to */
	int live = 0;		      /* tensors */
	int holders = 0;	      /* running operations that use it */
	bool home_is_current = false; /* the home has the content although it is not shown */
	bool outlived = false;	      /* has a tensor of an earlier step: it does not move */
	bool remapping = false;
	bool is_protected = false; /* against writes, in debug mode */
	std::vector<size_t> moves; /* of this group, in order */
	size_t next_move = 0;	   /* the first that is not resolved */

	bool is_fast() const
	{
		return shown != kNoFrame;
	}
};

/* The groups from `first` to before `end`. */
struct GroupSpan {
	size_t first, end;
};

class FrameGroups
{
public:
	explicit FrameGroups(const Plan &plan);

	FrameGroup &operator[](size_t group)
	{
		return groups_[group];
	}
	const FrameGroup &operator[](size_t group) const
	{
		return groups_[group];
	}
	size_t size() const
	{
		return groups_.size();
	}

	/* The first group that ends after `offset`; size() if there is none. */
	size_t find(size_t offset) const;
	/* The groups that overlap [offset, offset + size). */
	GroupSpan overlapping(size_t offset, size_t size) const;

	/* The other groups that occupy part of [frame, frame + the group's size). */
	std::vector<size_t> occupants(size_t group, size_t frame) const;
	/* Let the group have this range. False if another group occupies part of it. */
	bool occupy(size_t group, size_t frame);
	void vacate(size_t group);

private:
	std::vector<FrameGroup> groups_;    /* by offset */
	std::map<size_t, size_t> occupied_; /* frame to group; the ranges do not overlap */
};

} // namespace sentinel

#endif
