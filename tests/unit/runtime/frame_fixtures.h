/* SPDX-License-Identifier: Apache-2.0 */
/* A plan with frames in real memory, on a machine that need not have two nodes. */
#ifndef SENTINEL_TESTS_FRAME_FIXTURES_H
#define SENTINEL_TESTS_FRAME_FIXTURES_H

#include <ctime>
#include <memory>

#include "core/frame_executor.h"
#include "core/frame_system.h"

/* Every system call works, whatever nodes there are. */
inline void pretend_two_nodes()
{
	sentinel::frame_system().two_nodes = [] { return true; };
	sentinel::frame_system().prefer = [](char *, size_t, int) { return true; };
}

inline uint64_t real_ns()
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return uint64_t(t.tv_sec) * 1000000000 + uint64_t(t.tv_nsec);
}

struct Frames {
	sentinel::Plan plan;
	sentinel::Mapping arena;
	std::shared_ptr<sentinel::MemoryFile> pool;
	std::unique_ptr<sentinel::FrameExecutor> executor;

	explicit Frames(const sentinel::Plan &p, int threads = 2)
	    : plan(p), arena(p.arena, false, true)
	{
		pretend_two_nodes();
		pool = std::make_shared<sentinel::MemoryFile>("pool", sentinel::kFast);
		executor.reset(new sentinel::FrameExecutor(plan, arena, pool, real_ns, threads));
		pool->resize(plan.frames);
		executor->resume();
	}

	char *at(size_t offset)
	{
		return arena.base() + offset;
	}
};

#endif
