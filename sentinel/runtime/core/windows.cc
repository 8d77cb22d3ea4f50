/* SPDX-License-Identifier: Apache-2.0 */
#include "windows.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <system_error>

#include "clock.h"
#include "frame_system.h"

namespace sentinel
{
namespace
{

/* A window shows nothing, and its group may live. */
[[noreturn]] void end_process()
{
	fprintf(stderr, "sentinel: cannot map a tensor's memory: %s (check vm.max_map_count)\n",
		strerror(errno));
	abort();
}

} // namespace

Windows::Windows(const Plan &plan, Mapping &arena, const MemoryFile &home, const MemoryFile &pool)
    : base_(arena.base()), home_(home), pool_(pool)
{
	std::map<size_t, size_t> window_at; /* by offset */
	size_t parked = 0;

	auto add = [&](Window &window, size_t frame) {
		auto same = [frame](const View &view) { return view.frame == frame; };
		if (std::any_of(window.views.begin(), window.views.end(), same))
			return;
		/* Only the offset, until the mapping for parked views exists */
		window.views.push_back({frame, reinterpret_cast<char *>(parked)});
		parked += window.size;
	};
	for (const Group &g : plan.groups) {
		if (g.keep)
			continue;
		window_at[g.offset] = windows_.size();
		windows_.push_back({arena.base() + g.offset, g.size, {}, 0});
		add(windows_.back(), kNoFrame);
		if (g.frame != kNoFrame)
			add(windows_.back(), g.frame);
	}
	for (const Move &m : plan.moves)
		if (m.frame != kNoFrame)
			add(windows_[window_at.at(m.offset)], m.frame);
	parked_.reset(new Mapping(parked, true, true));
	if (!arena.apart() || !parked_->apart())
		throw std::bad_alloc();
	for (Window &window : windows_)
		for (View &view : window.views) {
			view.park = parked_->base() + reinterpret_cast<uintptr_t>(view.park);
			bool shown = view.frame == kNoFrame;
			if (!map(window, view, shown ? window.start : view.park))
				throw std::system_error(errno, std::generic_category(), "mmap");
		}
}

bool Windows::map(const Window &window, const View &view, char *address) const
{
	if (view.frame == kNoFrame)
		return home_.map(address, size_t(window.start - base_), window.size);
	return pool_.map(address, view.frame, window.size);
}

void Windows::populate()
{
	for (const Window &window : windows_)
		for (size_t i = 0; i < window.views.size(); i++)
			touch_pages(i == window.shown ? window.start : window.views[i].park,
				    window.size);
}

bool Windows::show(int index, size_t frame)
{
	Window &window = windows_[index];
	const View &old = window.views[window.shown];
	auto remap = frame_system().remap;
	size_t next = 0;

	while (window.views[next].frame != frame)
		next++;
	if (next == window.shown)
		return true;
	if (!remap(window.start, window.size, old.park))
		return false;
	if (remap(window.views[next].park, window.size, window.start)) {
		window.shown = next;
		mark_remapped(window.size / kPage);
		return true;
	}
	int error = errno;
	if (!remap(old.park, window.size, window.start) && !map(window, old, window.start))
		end_process();
	errno = error;
	return false;
}

void Windows::show_home(int index)
{
	Window &window = windows_[index];
	const View &old = window.views[window.shown];

	if (!window.shown)
		return;
	/* One system call replaces the window. */
	if (!frame_system().remap(window.views[0].park, window.size, window.start) &&
	    !map(window, window.views[0], window.start))
		end_process();
	window.shown = 0;
	if (!map(window, old, old.park))
		end_process();
}

void Windows::protect(int index, bool is_protected)
{
	const Window &window = windows_[index];

	mprotect(window.start, window.size, is_protected ? PROT_READ : PROT_READ | PROT_WRITE);
}

bool Windows::detach(int index, bool keep)
{
	const Window &window = windows_[index];
	void *p = mmap(keep ? nullptr : window.start, window.size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (keep ? 0 : MAP_FIXED), -1, 0);

	if (p == MAP_FAILED)
		return false;
	if (!keep)
		return true;
	prefer_node(static_cast<char *>(p), window.size, kSlow);
	memcpy(p, window.start, window.size);
	/* One system call replaces the window, so that readers see either memory. */
	if (frame_system().remap(static_cast<char *>(p), window.size, window.start))
		return true;
	int error = errno;
	munmap(p, window.size);
	errno = error;
	return false;
}

} // namespace sentinel
