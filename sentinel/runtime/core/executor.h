/* SPDX-License-Identifier: Apache-2.0 */
/* Executes a plan's migrations during a step, and waits for them, or cancels them, as planned. */
#ifndef SENTINEL_RUNTIME_EXECUTOR_H
#define SENTINEL_RUNTIME_EXECUTOR_H

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "migration_threads.h"
#include "move_record.h"
#include "plan.h"
#include "wait_trial.h"

namespace sentinel
{

/* The current pages of a move; size 0 for a variable that has not been seen yet. */
using Resolve = std::function<PageRange(const Move &)>;

struct StepStatistics {
	uint64_t begin_ns = 0;		      /* on the clock */
	uint64_t step_ns = 0, exposed_ns = 0; /* exposed: time spent waiting for promotions */
	uint64_t late = 0;		      /* bytes of promotions unfinished at their wait */
	uint64_t unresolved = 0;	      /* moves of variables that have not been seen yet */
	MigrationStatistics moves;
	std::vector<MoveRecord> records;
	const char *trial = "";
};

/*
 * One thread calls step_begin(), then advance() with positions that do not decrease, then
 * step_end(). Unfinished migrations continue during the next step.
 */
class Executor
{
public:
	/* `plan` outlives the executor. Throws std::system_error if threads cannot be created. */
	Executor(const Plan &plan, Resolve resolve, MoveFunction move, Clock clock);

	void step_begin();
	/* Whether this step waits for late promotions. */
	bool waits() const
	{
		return trial_.waits();
	}

	/* The operation at `position` is about to begin. One comparison if nothing is due. */
	void advance(int position)
	{
		if (position >= due_)
			act(position);
	}

	/*
	 * `typical`: the step matched the plan, so its time counts for the trial. `more` is added
	 * to its statistics.
	 */
	StepStatistics step_end(bool typical = true, const StepStatistics &more = StepStatistics());

	/* Wait until all submitted migrations are finished. */
	void drain()
	{
		threads_.drain();
	}

	/* Cancel all migrations; nothing migrates afterwards. */
	void stop()
	{
		threads_.stop();
	}

private:
	void act(int position);
	void note_due(int position);
	void submit(size_t move);
	std::vector<MoveRecord> take_records();
	void wait(int position);

	const Plan &plan_;
	Resolve resolve_;
	Clock clock_;
	MigrationThreads threads_;
	WaitTrial trial_;
	StepStatistics step_;
	uint64_t begin_ns_ = 0;
	size_t next_move_ = 0, next_wait_ = 0, next_deadline_ = 0;
	std::vector<size_t> by_deadline_; /* all moves */
	std::vector<uint64_t> due_ns_;	  /* by move: when this step came to its deadline, or 0 */
	std::vector<MoveRecord> absent_;  /* moves of variables that have not been seen yet */
	int due_ = 0;			  /* the next position at which there is something to do */
};

} // namespace sentinel

#endif
