/* SPDX-License-Identifier: Apache-2.0 */
#include "executor.h"

#include <algorithm>
#include <climits>

namespace sentinel
{

Executor::Executor(const Plan &plan, Resolve resolve, MoveFunction move, Clock clock)
    : plan_(plan), resolve_(std::move(resolve)), clock_(std::move(clock)), helpers_(std::move(move))
{
}

void Executor::step_begin()
{
	step_ = StepStatistics();
	step_.trial = trial_.name();
	move_ = wait_ = 0;
	begun_ = clock_();
	act(-1);
}

void Executor::act(int position)
{
	/* What is to be there by now is waited for before anything else is asked for. */
	for (; wait_ < plan_.waits.size() && plan_.waits[wait_] <= position; wait_++)
		wait(plan_.waits[wait_]);
	for (; move_ < plan_.moves.size() && plan_.moves[move_].at <= position; move_++) {
		const Move &move = plan_.moves[move_];
		Pages pages = resolve_(move);
		if (pages.size)
			helpers_.order(pages.start, pages.size, move.to, move.before);
		else
			step_.unresolved++;
	}
	due_ = INT_MAX;
	if (move_ < plan_.moves.size())
		due_ = plan_.moves[move_].at;
	if (wait_ < plan_.waits.size())
		due_ = std::min(due_, plan_.waits[wait_]);
}

void Executor::wait(int position)
{
	size_t late = helpers_.late(position);

	if (!late)
		return;
	step_.late += late;
	if (!trial_.wait()) {
		helpers_.leave(position);
		return;
	}
	uint64_t start = clock_();
	helpers_.wait(position);
	step_.exposed_ns += clock_() - start;
}

StepStatistics Executor::step_end(bool typical)
{
	act(plan_.ops);
	step_.step_ns = clock_() - begun_;
	step_.moves = helpers_.take_statistics();
	if (typical)
		trial_.step(step_.step_ns, step_.exposed_ns);
	return step_;
}

} // namespace sentinel
