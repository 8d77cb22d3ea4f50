/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of frames: tensors that outlive it, forks, and systems that refuse it. */
#include <doctest/doctest.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>

#include "core/plan_frames.h"
#include "frame_fixtures.h"

using namespace sentinel;

namespace
{

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
