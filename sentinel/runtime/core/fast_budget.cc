/* SPDX-License-Identifier: Apache-2.0 */
#include "fast_budget.h"

#include <algorithm>
#include <iterator>

namespace sentinel
{

/* The group that contains `p`, or the next one. */
FastBudget::Groups::iterator FastBudget::find(const char *p)
{
	auto after = groups_.upper_bound(p);

	if (after != groups_.begin()) {
		auto before = std::prev(after);
		if (p < before->first + before->second.size)
			return before;
	}
	return after;
}

void FastBudget::set_fast_bytes(Group &group, size_t bytes)
{
	used_ = used_ - group.fast_bytes + bytes;
	group.fast_bytes = bytes;
	peak_ = std::max(peak_, used_);
}

void FastBudget::add_group(char *start, size_t size, int node)
{
	MutexLock lock(mutex_);

	groups_[start].size = size;
	groups_[start].node = node;
}

void FastBudget::add_variable(char *start, size_t size, int node)
{
	MutexLock lock(mutex_);
	Group &group = groups_[start];

	group.size = size;
	group.node = node;
	group.live_tensors = 1;
	set_fast_bytes(group, node == kFast ? size : 0);
}

size_t FastBudget::tensor_born(const char *start, size_t size)
{
	MutexLock lock(mutex_);
	size_t displaced_bytes = 0;

	for (auto it = find(start); it != groups_.end() && it->first < start + size; ++it) {
		Group &group = it->second;
		if (group.live_tensors++ || group.node != kFast)
			continue;
		bool fits = used_ + group.size <= limit_;
		if (fits)
			set_fast_bytes(group, group.size);
		else
			displaced_bytes += group.size;
		if (group.displaced == fits) {
			prefer_(const_cast<char *>(it->first), group.size, fits ? kFast : kSlow);
			group.displaced = !fits;
		}
	}
	return displaced_bytes;
}

void FastBudget::tensor_died(const char *start, size_t size)
{
	MutexLock lock(mutex_);

	for (auto it = find(start); it != groups_.end() && it->first < start + size; ++it)
		if (--it->second.live_tensors == 0)
			set_fast_bytes(it->second, 0);
}

bool FastBudget::reserve(const char *start, size_t size)
{
	MutexLock lock(mutex_);
	auto it = find(start);

	if (it == groups_.end() || it->first > start)
		return true;
	Group &group = it->second;
	size_t growth = std::min(size, group.size - group.fast_bytes);
	if (used_ + growth > limit_)
		return false;
	set_fast_bytes(group, group.fast_bytes + growth);
	return true;
}

/* Absent pages are on neither node. */
void FastBudget::moved(const char *start, size_t size, int node, const MoveResult &result)
{
	MutexLock lock(mutex_);
	auto it = find(start);

	if (it == groups_.end() || it->first > start)
		return;
	Group &group = it->second;
	size_t freed = node == kFast ? size - result.moved : result.moved + result.absent;
	set_fast_bytes(group, group.fast_bytes - std::min(group.fast_bytes, freed));
}

size_t FastBudget::peak() const
{
	MutexLock lock(mutex_);

	return peak_;
}

} // namespace sentinel
