/* SPDX-License-Identifier: Apache-2.0 */
/* A plan with frames in real memory, on a machine that need not have two nodes. */
#ifndef SENTINEL_TESTS_FRAME_FIXTURES_H
#define SENTINEL_TESTS_FRAME_FIXTURES_H

#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

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

/* Two groups of a plan, and steps whose uses end one after the other. */
constexpr size_t kSize = 40 * sentinel::kPage; /* of a group: three chunks */

/* Uses at positions 0 to 9; two groups, both born in the range at 0 of the pool. */
inline sentinel::Plan two_groups()
{
	sentinel::Plan plan{};

	plan.ops = 10;
	plan.arena = 2 * kSize;
	plan.has_frames = true;
	plan.frames = 2 * kSize;
	for (size_t i = 0; i < 2; i++)
		plan.groups.push_back({i * kSize, kSize, sentinel::kFast, false, 0});
	for (int i = 0; i < 10; i++)
		plan.uses.push_back({"op", i, i});
	return plan;
}

inline sentinel::Move demote(size_t group, int at, int map, int before, bool copy = true)
{
	sentinel::Move m{at, sentinel::kSlow, group * kSize, kSize, -1, before};
	m.map = map;
	m.copy = copy;
	return m;
}

inline sentinel::Move promote(size_t group, int at, int before, size_t frame)
{
	sentinel::Move m{at, sentinel::kFast, group * kSize, kSize, -1, before};
	m.map = at;
	m.frame = frame;
	return m;
}

struct Step : Frames {
	explicit Step(const sentinel::Plan &p) : Frames(p, 1)
	{
		begin(true);
	}

	void begin(bool waits)
	{
		executor->step_begin(++number, waits);
	}

	/* End the uses before `position`, and reach it. */
	void reach(int position)
	{
		for (; ended < position; ended++)
			executor->op_ended(number, ended, ended, {});
		executor->advance(position);
	}

	sentinel::StepStatistics end()
	{
		sentinel::StepStatistics s;
		executor->step_end(s);
		ended = 0;
		return s;
	}

	size_t born(size_t group, char value)
	{
		size_t crowded = executor->tensor_born(at(group * kSize), kSize, 0);
		memset(at(group * kSize), value, kSize);
		return crowded;
	}

	void died(size_t group)
	{
		executor->tensor_died(at(group * kSize), kSize);
	}

	bool contains(size_t group, char value)
	{
		const char *p = at(group * kSize);
		return p[0] == value && memcmp(p, p + 1, kSize - 1) == 0;
	}

	/* Whether the window shows the range at `frame` of the pool. */
	bool shows(size_t group, size_t frame)
	{
		uintptr_t window = uintptr_t(at(group * kSize));
		std::ifstream maps("/proc/self/maps");
		for (std::string line; std::getline(maps, line);) {
			unsigned long start, end, offset;
			if (sscanf(line.c_str(), "%lx-%lx %*s %lx", &start, &end, &offset) == 3 &&
			    start <= window && window < end)
				return line.find("memfd:pool") != std::string::npos &&
				       offset + (window - start) == frame;
		}
		return false;
	}

	/* Whether the fast frame pool has the group's content at `frame`. */
	bool pool_contains(size_t frame, char value)
	{
		const char *p = pool->view() + frame;
		return p[0] == value && memcmp(p, p + 1, kSize - 1) == 0;
	}

	uint64_t number = 0;
	int ended = 0;
};

/* Wait for a migration thread, which has no reason to wait for this one. */
template <typename F> void eventually(F is_true)
{
	while (!is_true())
		std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

#endif
