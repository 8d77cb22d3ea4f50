/* SPDX-License-Identifier: Apache-2.0 */
/* Migration by frames, in real memory: what moves when, and what tensors contain. */
#include <doctest/doctest.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <system_error>
#include <thread>

#include "core/plan_frames.h"
#include "frame_fixtures.h"

using namespace sentinel;

namespace
{

constexpr size_t kSize = 40 * kPage; /* of a group: three chunks */

/* Uses at positions 0 to 9; two groups, both born in the range at 0 of the pool. */
Plan two_groups()
{
	Plan plan{};

	plan.ops = 10;
	plan.arena = 2 * kSize;
	plan.has_frames = true;
	plan.frames = 2 * kSize;
	for (size_t i = 0; i < 2; i++)
		plan.groups.push_back({i * kSize, kSize, kFast, false, 0});
	for (int i = 0; i < 10; i++)
		plan.uses.push_back({"op", i, i});
	return plan;
}

Move demote(size_t group, int at, int map, int before, bool copy = true)
{
	Move m{at, kSlow, group * kSize, kSize, -1, before};
	m.map = map;
	m.copy = copy;
	return m;
}

Move promote(size_t group, int at, int before, size_t frame)
{
	Move m{at, kFast, group * kSize, kSize, -1, before};
	m.map = at;
	m.frame = frame;
	return m;
}

struct Step : Frames {
	explicit Step(const Plan &p) : Frames(p, 1)
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

	StepStatistics end()
	{
		StepStatistics s;
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

TEST_CASE("a demoted group is promoted to another range")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 2, 4), promote(0, 4, 6, kSize)};
	Step step(plan);

	CHECK(step.born(0, 7) == 0);
	CHECK(step.pool_contains(0, 7));
	step.reach(2);
	eventually([&] { return !step.shows(0, 0); });
	CHECK(step.contains(0, 7));
	step.reach(4);
	step.reach(6); /* waits */
	CHECK(step.contains(0, 7));
	CHECK(step.shows(0, kSize));
	step.died(0);
	StepStatistics s = step.end();
	REQUIRE(s.records.size() == 2);
	CHECK(s.records[1].outcome == Outcome::moved);
	CHECK(s.records[1].begin_ns <= s.records[1].end_ns);
	CHECK(s.records[1].end_ns <= s.records[1].remap_ns);
	CHECK(s.moves.promoted == kSize);
}

TEST_CASE("a window is remapped only when all earlier uses have ended")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 5, 9)};
	Step step(plan);

	step.born(0, 7);
	step.reach(4);
	std::this_thread::sleep_for(std::chrono::milliseconds(20));
	CHECK(step.shows(0, 0));
	step.reach(5);
	eventually([&] { return !step.shows(0, 0); });
	CHECK(step.contains(0, 7));
	step.died(0);
	CHECK(step.end().moves.demoted == kSize);
}

TEST_CASE("a group whose range is occupied is born at home")
{
	Step step(two_groups());

	CHECK(step.born(0, 7) == 0);
	CHECK(step.born(1, 8) == kSize);
	CHECK(step.contains(0, 7));
	CHECK(step.contains(1, 8));
	step.died(0);
	step.died(1);
	CHECK(step.born(1, 9) == 0);
	CHECK(step.pool_contains(0, 9));
	step.died(1);
	step.end();
}

TEST_CASE("a promotion needs a free range")
{
	Plan plan = two_groups();
	plan.groups[1].node = kSlow;
	plan.groups[1].frame = kNoFrame;
	plan.moves = {promote(1, 2, 4, 0), promote(1, 4, 6, kSize)};
	Step step(plan);

	step.born(0, 7);
	step.born(1, 8);
	step.reach(4);
	step.reach(6);
	CHECK(step.contains(0, 7));
	CHECK(step.contains(1, 8));
	CHECK(step.pool_contains(kSize, 8));
	step.died(0);
	step.died(1);
	StepStatistics s = step.end();
	CHECK(s.records[0].outcome == Outcome::cancelled);
	CHECK(s.records[1].outcome == Outcome::moved);
	CHECK(s.late >= kSize);
}

TEST_CASE("a demotion that is not copied at its deadline is cancelled")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 3, 3), promote(0, 4, 5, kSize)};
	Step step(plan);

	step.born(0, 7);
	step.executor->advance(3); /* the uses before it have not ended */
	CHECK(step.pool_contains(0, 7));
	step.reach(5);
	CHECK(step.pool_contains(0, 7)); /* it stays in its range */
	step.died(0);
	StepStatistics s = step.end();
	CHECK(s.records[0].outcome == Outcome::cancelled);
	CHECK(s.records[1].outcome == Outcome::resident);
	CHECK(s.moves.cancelled == kSize);
	CHECK(s.exposed_ns == 0);
}

TEST_CASE("a demotion needs no copy if the home has the content")
{
	Plan plan = two_groups();
	plan.groups[0].node = kSlow;
	plan.groups[0].frame = kNoFrame;
	plan.moves = {promote(0, 1, 2, 0), demote(0, 2, 3, 9, false)};
	Step step(plan);

	step.born(0, 7);
	step.reach(2);
	step.reach(3);
	eventually([&] { return !step.shows(0, 0); });
	step.died(0);
	StepStatistics s = step.end();
	CHECK(s.moves.promoted == kSize);
	CHECK(s.moves.demoted == kSize);
	CHECK(s.moves.copied == kSize);
}

TEST_CASE("a demotion without a copy copies if the promotion before it was not executed")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 2, 2), promote(0, 2, 3, kSize), demote(0, 4, 5, 9, false)};
	Step step(plan);

	step.born(0, 7);
	step.executor->advance(2); /* cancels the demotion */
	memset(step.at(0), 8, kSize);
	step.reach(5);
	eventually([&] { return !step.shows(0, 0); });
	CHECK(step.contains(0, 8));
	step.died(0);
	StepStatistics s = step.end();
	CHECK(s.records[1].outcome == Outcome::resident);
	CHECK(s.records[2].outcome == Outcome::moved);
	CHECK(s.moves.copied == kSize);
}

TEST_CASE("an unknown user keeps the window and its write drops the copy")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 2, 9)};
	Step step(plan);

	step.born(0, 7);
	step.executor->hold(step.number, 20, {step.at(0) + 100});
	step.reach(4);
	std::this_thread::sleep_for(std::chrono::milliseconds(20));
	CHECK(step.shows(0, 0));
	memset(step.at(0), 8, kSize);
	step.executor->op_ended(step.number, 20, -1, {step.at(0)});
	step.reach(9);
	CHECK(step.contains(0, 8));
	step.died(0);
	CHECK(step.end().records[0].outcome == Outcome::cancelled);
}

TEST_CASE("moves of a group that does not live are absent")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 2, 3)};
	Step step(plan);

	step.reach(9);
	StepStatistics s = step.end();
	CHECK(s.records[0].outcome == Outcome::absent);
	CHECK(s.moves.absent == kSize);
	CHECK(s.moves.cancelled == 0);
}

TEST_CASE("a tensor that outlives its step keeps its place and its content")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 2, 3)};
	Step step(plan);

	step.executor->advance(4); /* past the move */
	step.born(0, 7);
	step.end();
	step.begin(true);
	step.reach(9);
	CHECK(step.pool_contains(0, 7));
	CHECK(step.end().moves.demoted == 0);
	step.executor->suspend();
	memset(step.pool->view(), 1, step.pool->size()); /* another plan */
	CHECK(step.contains(0, 7));
	step.executor->resume();
	step.begin(false);
	CHECK(step.born(1, 9) == 0); /* the range is free */
	CHECK(step.contains(0, 7));
	step.died(1);
	step.end();
	step.executor->retire();
	CHECK(step.contains(0, 7));
	memset(step.at(0), 8, 2 * kSize);
	CHECK(step.contains(0, 8));
}

TEST_CASE("the pool may be returned and grow again between steps")
{
	Step step(two_groups());

	step.end();
	for (int i = 0; i < 3; i++) {
		step.executor->suspend();
		step.pool->resize(0);
		step.pool->resize(step.plan.frames);
		step.executor->resume();
		step.begin(true);
		CHECK(step.born(0, 7) == 0);
		CHECK(step.pool_contains(0, 7));
		step.died(0);
		step.end();
	}
	CHECK(step.pool->returns() == 3);
}

TEST_CASE("a forked child has the live tensors in memory of its own")
{
	Plan plan = two_groups();
	plan.moves = {demote(0, 1, 2, 3)};
	Step step(plan);

	step.born(0, 7);
	step.executor->before_fork();
	pid_t child = fork();
	if (child == 0) {
		alarm(60);
		step.executor->after_fork_in_child();
		bool same = step.contains(0, 7);
		memset(step.at(0), 9, 2 * kSize);
		_exit(same && step.contains(0, 9) ? 0 : 1);
	}
	step.executor->after_fork_in_parent();
	int status;
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(status == 0);
	CHECK(step.contains(0, 7));
	step.died(0);
	step.end();
}

std::atomic<int> remaps_left;

TEST_CASE("a remap that the system refuses leaves the group where it is")
{
	static bool (*const remap)(char *, size_t, char *) = frame_system().remap;
	Plan plan = two_groups();

	plan.moves = {demote(0, 1, 2, 9)};
	frame_system().remap = [](char *from, size_t size, char *to) {
		if (remaps_left-- == 0) {
			errno = ENOMEM;
			return false;
		}
		return remap(from, size, to);
	};
	for (int allowed : {0, 1}) { /* the first or the second of its system calls */
		remaps_left = 1000;
		Step step(plan);
		step.born(0, 7);
		eventually([&] { return step.shows(1, 0); });
		remaps_left = allowed;
		step.reach(2);
		eventually([] { return remaps_left < 0; });
		step.reach(9);
		CHECK(step.contains(0, 7));
		CHECK(step.shows(0, 0));
		step.died(0);
		StepStatistics s = step.end();
		CHECK(s.records[0].outcome == Outcome::failed);
		CHECK(s.moves.failed == kSize);
	}
}

TEST_CASE("files of memory that the system refuses throw")
{
	FrameSystem real = frame_system();
	auto error = [](const std::string &call) {
		try {
			Step step(two_groups());
		} catch (const std::system_error &e) {
			return std::string(e.what()).find(call) == 0;
		}
		return false;
	};

	frame_system().create_file = [](const char *) {
		errno = ENOSYS;
		return -1;
	};
	CHECK(error("memfd_create"));
	frame_system() = real;
	frame_system().allocate = [](int, size_t, size_t) {
		errno = ENOSPC;
		return false;
	};
	CHECK(error("fallocate"));
	frame_system() = real;
}

TEST_CASE("a window needs a mapping for its home and for each of its ranges")
{
	Plan plan = two_groups();

	plan.groups.push_back({2 * kSize, kSize, kFast, true});
	CHECK(frame_mappings(plan) == 4);
	plan.moves = {promote(0, 1, 2, 0), promote(0, 3, 4, kSize), promote(1, 3, 4, kSize)};
	CHECK(frame_mappings(plan) == 6);
	plan.has_frames = false;
	CHECK(frame_mappings(plan) == 0);
}

TEST_CASE("a file of memory beyond the limit on files throws")
{
	struct rlimit old, limit;
	MemoryFile file("pool", kFast);

	REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
	limit = {kPage, old.rlim_max};
	REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	CHECK_THROWS_AS(file.resize(2 * kPage), std::system_error);
	CHECK(file.size() == 0);
	CHECK(file.view() == nullptr);
	setrlimit(RLIMIT_FSIZE, &old);
}

TEST_CASE("in debug mode a write during a copy ends the process")
{
	Plan plan = two_groups();
	PlannedTensor t{"conv/Relu", false, 0, 0, kSize, false, 0, kFast};
	plan.tensors.push_back(t);
	plan.moves = {demote(0, 1, 5, 9)};
	int ends[2];
	REQUIRE(pipe(ends) == 0);
	pid_t child = fork();
	if (child == 0) {
		alarm(60);
		dup2(ends[1], STDERR_FILENO);
		setenv("SENTINEL_CHECK_FRAMES", "1", 1);
		Step step(plan);
		step.born(0, 7);
		WriteGuard::set_operation("train/Assign");
		step.reach(4);
		for (;;) /* until the copy has begun */
			const_cast<volatile char *>(step.at(0))[5] = 8;
	}
	close(ends[1]);
	std::string text;
	for (char c; read(ends[0], &c, 1) == 1;)
		text += c;
	int status;
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFEXITED(status));
	CHECK(WEXITSTATUS(status) == 70);
	CHECK(text.find("sentinel: operation train/Assign writes to a group that is being "
			"copied, with tensors of conv/Relu\n") == 0);
}

} // namespace
