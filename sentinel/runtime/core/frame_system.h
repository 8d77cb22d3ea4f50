/* SPDX-License-Identifier: Apache-2.0 */
/* What frames ask of the system. A system may refuse each; tests replace them. */
#ifndef SENTINEL_RUNTIME_FRAME_SYSTEM_H
#define SENTINEL_RUNTIME_FRAME_SYSTEM_H

#include <cstddef>

namespace sentinel
{

struct FrameSystem {
	/* Whether there are a fast and a slow node. */
	bool (*two_nodes)();
	/* A file of memory: its descriptor, or -1 with errno. */
	int (*create_file)(const char *name);
	/* Give [offset, offset + size) of the file memory. False, with errno, if there is none. */
	bool (*allocate)(int file, size_t offset, size_t size);
	/* See prefer_node(). */
	bool (*prefer)(char *start, size_t size, int node);
	/*
	 * Move the pages of [from, from + size) to `to`, and replace what is mapped there. False,
	 * with errno, if nothing has changed.
	 */
	bool (*remap)(char *from, size_t size, char *to);
};

/* The one that all plans use. Change it only while there is no plan. */
FrameSystem &frame_system();

} // namespace sentinel

#endif
