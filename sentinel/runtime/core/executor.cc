/* SPDX-License-Identifier: Apache-2.0 */
#include "executor.h"

#include <algorithm>
#include <climits>

namespace sentinel
{

Executor::Executor(const Plan &plan, Resolve resolve, MoveFunction move, Clock clock)
    : plan_(plan), resolve_(std::move(resolve)), clock_(std::move(clock)), threads_(std::move(move))
{
}

void Executor::step_begin()
{
	step_ = StepStatistics();
	step_.trial = trial_.name();
	next_move_ = next_wait_ = 0;
	begin_ns_ = clock_();
	act(-1);
}

void Executor::act(int position)
{
	/* Wait for due promotions before submitting new moves. */
	for (; next_wait_ < plan_.waits.size() && plan_.waits[next_wait_] <= position; next_wait_++)
		wait(plan_.waits[next_wait_]);
	for (; next_move_ < plan_.moves.size() && plan_.moves[next_move_].at <= position;
	     next_move_++) {
		const Move &move = plan_.moves[next_move_];
		PageRange pages = resolve_(move);
		if (pages.size)
			threads_.submit(pages.start, pages.size, move.to, move.before);
		else
			step_.unresolved++;
	}
	due_ = INT_MAX;
	if (next_move_ < plan_.moves.size())
		due_ = plan_.moves[next_move_].at;
	if (next_wait_ < plan_.waits.size())
		due_ = std::min(due_, plan_.waits[next_wait_]);
}

void Executor::wait(int position)
{
	size_t late = threads_.late_bytes(position);

	if (!late)
		return;
	step_.late += late;
	if (!trial_.waits()) {
		threads_.cancel_late(position);
		return;
	}
	uint64_t start = clock_();
	threads_.wait(position);
	step_.exposed_ns += clock_() - start;
}

StepStatistics Executor::step_end(bool typical, const StepStatistics &more)
{
	act(plan_.ops);
	step_.begin_ns = begin_ns_;
	step_.step_ns = clock_() - begin_ns_;
	step_.moves = threads_.take_statistics();
	step_.moves += more.moves;
	step_.exposed_ns += more.exposed_ns;
	step_.late += more.late;
	step_.records = more.records;
	if (typical)
		trial_.step(step_.step_ns, step_.exposed_ns);
	return step_;
}

} // namespace sentinel
