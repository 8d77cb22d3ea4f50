/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plan in execution: its pools, its budget of fast memory and its migration threads. All plans
 * share the reserved pool, since its tensors live within a step. A plan that is suspended, because
 * a step of another kind begins, holds no fast memory. Groups of a plan with frames migrate by
 * frames, or as without if the system refuses what frames need.
 */
#ifndef SENTINEL_RUNTIME_ACTIVE_PLAN_H
#define SENTINEL_RUNTIME_ACTIVE_PLAN_H

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "arena.h"
#include "executor.h"
#include "fast_budget.h"
#include "frame_executor.h"
#include "mutex.h"
#include "plan.h"

namespace sentinel
{

class ActivePlan
{
public:
	using Log = std::function<void(const std::string &)>;
	using FramePool = std::shared_ptr<MemoryFile>;

	/*
	 * `frame_pool` returns the fast frame pool of all plans, or throws. `variable_pages`
	 * returns the current pages of a variable. Throws std::exception if the system lacks
	 * addresses or threads.
	 */
	ActivePlan(Plan plan, std::shared_ptr<Arena> reserved,
		   const std::function<FramePool()> &frame_pool,
		   std::function<PageRange(const std::string &)> variable_pages, Log log);

	void step_begin(uint64_t step) SENTINEL_EXCLUDES(mutex_);
	/* The step has reached `position`. */
	void advance_to(uint64_t step, int position) SENTINEL_EXCLUDES(mutex_);
	/* `typical`: the step matched the plan. */
	StepStatistics step_end(bool typical) SENTINEL_EXCLUDES(mutex_);

	/*
	 * Run `run` of an operation allocates a tensor of the arena. Returns bytes of its groups
	 * that did not fit into fast memory.
	 */
	size_t tensor_born(const char *start, size_t size, int run);
	void tensor_died(const char *start, size_t size);

	/* The executor of its frames; nullptr if it has none. */
	FrameExecutor *frames()
	{
		return frames_.get();
	}
	/* Bytes of the fast frame pool that it needs. */
	size_t frame_bytes() const
	{
		return frames_ ? plan.frames : 0;
	}
	/* Resident bytes of the arena on each node, with the homes and the fast frame pool. */
	std::vector<size_t> residency() const;

	/* Set the node of every group and of the reserved pool. False (errno) on failure. */
	bool set_nodes();
	/* Finish all migrations, and empty the arena's part of fast memory. */
	void suspend();
	/* Use fast memory, from now on. The fast frame pool is as large as the plan needs. */
	void resume();
	/* Account for a variable that lives already, on `node`, and is not being migrated. */
	void add_variable(const PageRange &pages, int node)
	{
		fast_budget_->add_variable(pages.start, pages.size, node);
	}
	/* See FastBudget. */
	FastBudget &fast_budget()
	{
		return *fast_budget_;
	}
	const FastBudget &fast_budget() const
	{
		return *fast_budget_;
	}
	/* Pages cannot be moved on this system; do not report it again. */
	void set_immovable()
	{
		immovable_ = true;
	}
	/* Stop all migration, for good, and do what suspend() does. */
	void retire();

	const Plan plan;
	const uint64_t id; /* of all plans of this process */
	const std::shared_ptr<Arena> reserved, arena;
	uint64_t graph_hash = 0; /* of a step that matched the plan's graph; 0 before the first */

private:
	void make_frames(const std::function<FramePool()> &frame_pool);
	PageRange resolve(const Move &move);
	void leave_fast_memory();
	MoveResult migrate(char *start, size_t size, int node);

	const std::function<PageRange(const std::string &)> variable_pages_;
	const Log log_;
	std::unique_ptr<FrameExecutor> frames_;
	std::unique_ptr<FastBudget> fast_budget_;
	std::atomic<bool> immovable_{false};
	Plan page_moves_; /* what move_pages executes: `ops`, `moves` and `waits` */

	Mutex mutex_; /* serialises operations that drive the executor */
	std::unique_ptr<Executor> executor_;
	uint64_t current_step_ SENTINEL_GUARDED_BY(mutex_) = 0;
};

} // namespace sentinel

#endif
