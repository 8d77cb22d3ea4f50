/* SPDX-License-Identifier: Apache-2.0 */
#include "fast_budget.h"

#include <algorithm>
#include <iterator>

namespace sentinel
{

/* The range that `p` is in, or the next one. */
Room::Ranges::iterator Room::find(const char *p)
{
	auto after = ranges_.upper_bound(p);

	if (after != ranges_.begin()) {
		auto before = std::prev(after);
		if (p < before->first + before->second.size)
			return before;
	}
	return after;
}

void Room::set(Held &held, size_t fast)
{
	used_ = used_ - held.fast + fast;
	held.fast = fast;
	peak_ = std::max(peak_, used_);
}

void Room::add(char *start, size_t size, int node)
{
	MutexLock lock(mutex_);

	ranges_[start] = Held{size, node};
}

void Room::add_living(char *start, size_t size, int node)
{
	MutexLock lock(mutex_);
	auto added = ranges_.emplace(start, Held{size, node});

	if (!added.second)
		return;
	added.first->second.living = 1;
	if (node == kFast)
		set(added.first->second, size);
}

size_t Room::born(const char *start, size_t size)
{
	MutexLock lock(mutex_);
	size_t crowded = 0;

	for (auto range = find(start); range != ranges_.end() && range->first < start + size;
	     ++range) {
		Held &held = range->second;
		if (held.living++ || held.node != kFast)
			continue;
		bool fits = used_ + held.size <= limit_;
		if (fits)
			set(held, held.size);
		else
			crowded += held.size;
		if (held.elsewhere == fits) {
			place_(const_cast<char *>(range->first), held.size, fits ? kFast : kSlow);
			held.elsewhere = !fits;
		}
	}
	return crowded;
}

void Room::dead(const char *start, size_t size)
{
	MutexLock lock(mutex_);

	for (auto range = find(start); range != ranges_.end() && range->first < start + size;
	     ++range)
		if (--range->second.living == 0)
			set(range->second, 0);
}

bool Room::take(const char *start, size_t size)
{
	MutexLock lock(mutex_);
	auto range = find(start);

	if (range == ranges_.end() || range->first > start)
		return true;
	Held &held = range->second;
	size_t more = std::min(size, held.size - held.fast);
	if (used_ + more > limit_)
		return false;
	set(held, held.fast + more);
	return true;
}

/* What nobody had touched is in neither memory. */
void Room::moved(const char *start, size_t size, int node, const Moved &what)
{
	MutexLock lock(mutex_);
	auto range = find(start);

	if (range == ranges_.end() || range->first > start)
		return;
	Held &held = range->second;
	size_t gone = node == kFast ? size - what.moved : what.moved + what.absent;
	set(held, held.fast - std::min(held.fast, gone));
}

size_t Room::peak() const
{
	MutexLock lock(mutex_);

	return peak_;
}

} // namespace sentinel
