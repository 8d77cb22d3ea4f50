/* SPDX-License-Identifier: Apache-2.0 */
#include "frame_groups.h"

#include <algorithm>
#include <iterator>

namespace sentinel
{

FrameGroups::FrameGroups(const Plan &plan)
{
	for (const Group &g : plan.groups)
		if (!g.keep) {
			FrameGroup group;
			group.offset = g.offset;
			group.size = g.size;
			group.birth_frame = g.frame;
			groups_.push_back(group);
		}
	std::sort(groups_.begin(), groups_.end(),
		  [](const FrameGroup &a, const FrameGroup &b) { return a.offset < b.offset; });
}

size_t FrameGroups::find(size_t offset) const
{
	auto ends_before = [](const FrameGroup &g, size_t value) {
		return g.offset + g.size <= value;
	};
	auto found = std::lower_bound(groups_.begin(), groups_.end(), offset, ends_before);

	return size_t(found - groups_.begin());
}

GroupSpan FrameGroups::overlapping(size_t offset, size_t size) const
{
	size_t first = find(offset), end = first;

	while (end < groups_.size() && groups_[end].offset < offset + size)
		end++;
	return {first, end};
}

std::vector<size_t> FrameGroups::occupants(size_t group, size_t frame) const
{
	std::vector<size_t> others;
	auto range = occupied_.upper_bound(frame);

	if (range != occupied_.begin() &&
	    std::prev(range)->first + groups_[std::prev(range)->second].size > frame)
		--range;
	for (; range != occupied_.end() && range->first < frame + groups_[group].size; ++range)
		if (range->second != group)
			others.push_back(range->second);
	return others;
}

bool FrameGroups::occupy(size_t group, size_t frame)
{
	if (!occupants(group, frame).empty())
		return false;
	vacate(group);
	occupied_[frame] = group;
	groups_[group].occupied = frame;
	return true;
}

void FrameGroups::vacate(size_t group)
{
	FrameGroup &g = groups_[group];

	if (g.occupied != kNoFrame)
		occupied_.erase(g.occupied);
	g.occupied = kNoFrame;
}

} // namespace sentinel
