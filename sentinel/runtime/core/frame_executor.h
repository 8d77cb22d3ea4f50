/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migrates the groups of a plan with frames: migration threads copy groups and remap windows while
 * the step runs (docs/sentinel.md, "Frames"). Thread-safe, but one thread at a time calls
 * step_begin(), advance() and step_end().
 *
 * Data is safe whatever order operations run in, and whatever they use: a window is never remapped
 * while an operation holds its group, and a copy during which the group was written is dropped.
 */
#ifndef SENTINEL_RUNTIME_FRAME_EXECUTOR_H
#define SENTINEL_RUNTIME_FRAME_EXECUTOR_H

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "executor.h"
#include "frame_moves.h"
#include "memory_file.h"
#include "migration_cores.h"
#include "mutex.h"
#include "operation.h"
#include "windows.h"
#include "write_guard.h"

namespace sentinel
{

class FrameExecutor
{
public:
	/*
	 * `plan` and `arena` outlive it; plans share `pool`. Throws std::system_error or
	 * std::bad_alloc if the system refuses memory, addresses or threads.
	 */
	FrameExecutor(const Plan &plan, Mapping &arena, std::shared_ptr<MemoryFile> pool,
		      Clock clock, int threads);
	~FrameExecutor();
	FrameExecutor(const FrameExecutor &) = delete;
	FrameExecutor &operator=(const FrameExecutor &) = delete;

	/* `waits`: wait for late promotions instead of cancelling them. */
	void step_begin(uint64_t step, bool waits) SENTINEL_EXCLUDES(mutex_);
	/* The step reaches `position`: resolve all moves that are due. */
	void advance(int position) SENTINEL_EXCLUDES(mutex_)
	{
		if (position >= next_due_.load(std::memory_order_relaxed))
			resolve_due(position);
	}
	/* Cancel what is unfinished. Adds to `statistics`. */
	void step_end(StepStatistics &statistics) SENTINEL_EXCLUDES(mutex_);

	/* The run `run` of an operation uses these tensors, until it ends. */
	void hold(uint64_t step, int run, const std::vector<TensorRange> &tensors)
		SENTINEL_EXCLUDES(mutex_);
	/*
	 * The run has ended. It is the plan's use `use` (-1: none), and may have written to these
	 * tensors and to those that it allocated.
	 */
	void op_ended(uint64_t step, int run, int use, const std::vector<TensorRange> &written)
		SENTINEL_EXCLUDES(mutex_);

	/* Run `run` allocates a tensor. Returns bytes of its groups that the pool had no space for.
	 */
	size_t tensor_born(const char *start, size_t size, int run) SENTINEL_EXCLUDES(mutex_);
	void tensor_died(const char *start, size_t size) SENTINEL_EXCLUDES(mutex_);

	/* Between steps: leave the fast frame pool, to other plans. */
	void suspend() SENTINEL_EXCLUDES(mutex_);
	/* Between steps: use it again, now of the plan's size. Throws std::system_error. */
	void resume() SENTINEL_EXCLUDES(mutex_);
	/* Stop the threads for good. Windows become private memory; live tensors keep their
	 * content. */
	void retire() SENTINEL_EXCLUDES(mutex_);

	/* No window is being remapped from here to the end of the fork. */
	void before_fork() SENTINEL_UNCHECKED;
	void after_fork_in_parent() SENTINEL_UNCHECKED;
	/* The child has live tensors in memory of its own, and no threads. */
	void after_fork_in_child() SENTINEL_UNCHECKED;

	/* Bytes on each node that windows have: their homes and, until suspend(), the pool. */
	std::vector<size_t> residency() const;

private:
	/* The groups that a tensor has a part of. */
	GroupSpan groups_of(const TensorRange &tensor) const SENTINEL_REQUIRES(mutex_);
	void run(int core) SENTINEL_EXCLUDES(mutex_);
	bool work() SENTINEL_REQUIRES(mutex_);
	void copy(const FrameWork &chunk) SENTINEL_REQUIRES(mutex_);
	void remap(size_t move) SENTINEL_REQUIRES(mutex_);
	bool show(size_t group, size_t frame) SENTINEL_REQUIRES(mutex_);
	bool return_window() SENTINEL_REQUIRES(mutex_);
	void resolve_due(int position) SENTINEL_EXCLUDES(mutex_);
	void resolve(size_t move, bool waits, Reason unless) SENTINEL_REQUIRES(mutex_);
	void drop(size_t group, Reason reason) SENTINEL_REQUIRES(mutex_);
	void hold_group(size_t group, int run, bool is_born) SENTINEL_REQUIRES(mutex_);
	void show_home(size_t group) SENTINEL_REQUIRES(mutex_);
	void protect(size_t group, bool is_protected) SENTINEL_REQUIRES(mutex_);
	void unprotect_resolved(size_t move) SENTINEL_REQUIRES(mutex_);
	void quiesce() SENTINEL_REQUIRES(mutex_);
	void wake_if_ready() SENTINEL_REQUIRES(mutex_);
	void stop() SENTINEL_EXCLUDES(mutex_);
	bool is_step(uint64_t step) const SENTINEL_REQUIRES(mutex_)
	{
		return step == step_ && in_step_;
	}

	struct Held {
		size_t group;
		bool is_born; /* the run allocated a tensor in it, so it may write there */
	};

	char *const base_; /* of the arena */
	const size_t arena_size_;
	const size_t frames_; /* bytes of the pool that the plan needs */
	const Clock clock_;
	const std::shared_ptr<MemoryFile> pool_;
	MemoryFile home_;
	Windows windows_;
	std::unique_ptr<WriteGuard> guard_; /* in debug mode */
	std::atomic<int> next_due_{0};

	mutable Mutex mutex_;
	Condition work_;    /* for migration threads */
	Condition changed_; /* for those who wait for them */
	FrameMoves moves_ SENTINEL_GUARDED_BY(mutex_);
	std::vector<std::vector<Held>> held_ SENTINEL_GUARDED_BY(mutex_); /* by run */
	std::vector<size_t> returning_ SENTINEL_GUARDED_BY(mutex_); /* groups that have died */
	MigrationStatistics statistics_ SENTINEL_GUARDED_BY(mutex_);
	uint64_t step_ SENTINEL_GUARDED_BY(mutex_) = 0;
	uint64_t late_ SENTINEL_GUARDED_BY(mutex_) = 0, exposed_ns_ SENTINEL_GUARDED_BY(mutex_) = 0;
	uint64_t pool_returns_ SENTINEL_GUARDED_BY(mutex_) = UINT64_MAX;
	int remapping_ SENTINEL_GUARDED_BY(mutex_) = 0;
	bool in_step_ SENTINEL_GUARDED_BY(mutex_) = false, waits_
							   SENTINEL_GUARDED_BY(mutex_) = true;
	bool suspended_ SENTINEL_GUARDED_BY(mutex_) = true, stop_
							    SENTINEL_GUARDED_BY(mutex_) = false;
	std::vector<std::thread> threads_;
};

} // namespace sentinel

#endif
