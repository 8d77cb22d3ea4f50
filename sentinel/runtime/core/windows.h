/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The windows of migratable groups in the arena. A window shows either its home, at the same offset
 * of a file on node 1, or a range of the fast frame pool. Every view of a window is mapped, with
 * all its pages, once: in the window, or parked elsewhere. So to remap a window is to exchange two
 * mappings; no page is allocated, zeroed or freed.
 *
 * Different windows may be used by different threads at the same time.
 */
#ifndef SENTINEL_RUNTIME_WINDOWS_H
#define SENTINEL_RUNTIME_WINDOWS_H

#include <cstddef>
#include <memory>
#include <vector>

#include "memory.h"
#include "memory_file.h"
#include "plan.h"

namespace sentinel
{

class Windows
{
public:
	/*
	 * Create a window for every group without `keep`; they show their homes. The files must
	 * outlive it. The windows stay mapped after it. Throws std::system_error or
	 * std::bad_alloc.
	 */
	Windows(const Plan &plan, Mapping &arena, const MemoryFile &home, const MemoryFile &pool);

	/* Give every page of every view its entry in the page table. */
	void populate();

	/*
	 * Show the home (`frame` is kNoFrame) or a frame range. Nothing may access the window
	 * meanwhile. False, with errno, if the system refuses; then nothing has changed.
	 */
	bool show(int window, size_t frame);

	/*
	 * Show the home although other threads may read the window; it has the same content. The
	 * view that was shown loses its pages' entries. The process ends if the system refuses.
	 */
	void show_home(int window);

	/* Write-protect what the window shows, or end that. */
	void protect(int window, bool is_protected);

	/*
	 * Replace the window by private memory, which prefers node 1. It has the same content with
	 * `keep`, and other threads may read it meanwhile. False, with errno, if there is none.
	 */
	bool detach(int window, bool keep);

	/* After detach() of all: unmap what is parked. */
	void unmap_parked()
	{
		parked_.reset();
	}

private:
	struct View {
		size_t frame; /* kNoFrame: the home */
		char *park;
	};
	struct Window {
		char *start;
		size_t size;
		std::vector<View> views; /* the home comes first */
		size_t shown = 0;	 /* index */
	};

	bool map(const Window &window, const View &view, char *address) const;

	const char *const base_; /* of the arena */
	const MemoryFile &home_, &pool_;
	std::vector<Window> windows_;
	std::unique_ptr<Mapping> parked_;
};

} // namespace sentinel

#endif
