/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out a plan's moves as a step goes on, and waits, or does not, where the plan says. */
#ifndef SENTINEL_RUNTIME_EXECUTOR_H
#define SENTINEL_RUNTIME_EXECUTOR_H

#include <cstdint>
#include <functional>
#include <vector>

#include "migration_threads.h"
#include "plan.h"
#include "wait_trial.h"

namespace sentinel
{

/* Where a move's pages are now. Size 0: nowhere (a named tensor that was not seen yet). */
using Resolve = std::function<Pages(const Move &)>;
using Clock = std::function<uint64_t()>; /* ns */

struct StepStatistics {
	uint64_t step_ns = 0, exposed_ns = 0; /* by the clock; exposed is what was spent waiting */
	uint64_t late = 0;		      /* bytes of promotions not done in time */
	uint64_t unresolved = 0;	      /* moves of tensors that are nowhere */
	MoveStatistics moves;
	const char *trial = "";
};

/*
 * One thread calls step_begin(), then advance() with positions that do not decrease, then
 * step_end(). Moves that are not done then go on during the next step.
 */
class Executor
{
      public:
	/* `plan` outlives the executor. Throws std::system_error if there are no threads. */
	Executor(const Plan &plan, Resolve resolve, MoveFunction move, Clock clock);

	void step_begin();

	/* Just before the operation at `position` begins. Costs a comparison if nothing is due. */
	void advance(int position)
	{
		if (position >= due_)
			act(position);
	}

	/* `typical`: the step is one that the plan was made for, and took as long as such steps do.
	 */
	StepStatistics step_end(bool typical = true);

	/* Wait until all moves that were ordered are done. */
	void drain()
	{
		helpers_.drain();
	}

	/* Call off all moves; nothing moves afterwards. */
	void stop()
	{
		helpers_.stop();
	}

      private:
	void act(int position);
	void wait(int position);

	const Plan &plan_;
	Resolve resolve_;
	Clock clock_;
	Helpers helpers_;
	Trial trial_;
	StepStatistics step_;
	uint64_t begun_ = 0;
	size_t move_ = 0, wait_ = 0; /* the next of each */
	int due_ = 0;		     /* the position at which there is something to do again */
};

} // namespace sentinel

#endif
