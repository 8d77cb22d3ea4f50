/* SPDX-License-Identifier: Apache-2.0 */
#include "executor.h"

#include <algorithm>
#include <climits>
#include <numeric>

namespace sentinel
{

Executor::Executor(const Plan &plan, Resolve resolve, MoveFunction move, Clock clock)
    : plan_(plan), resolve_(std::move(resolve)), clock_(clock),
      threads_(std::move(move), std::move(clock)), by_deadline_(plan.moves.size())
{
	std::iota(by_deadline_.begin(), by_deadline_.end(), 0);
	std::stable_sort(by_deadline_.begin(), by_deadline_.end(), [&](size_t a, size_t b) {
		return plan.moves[a].before < plan.moves[b].before;
	});
}

void Executor::step_begin()
{
	step_ = StepStatistics();
	step_.trial = trial_.name();
	next_move_ = next_wait_ = next_deadline_ = 0;
	due_ns_.assign(plan_.moves.size(), 0);
	absent_.clear();
	(void)threads_.take_records(); /* of a step that did not end */
	begin_ns_ = clock_();
	act(-1);
}

void Executor::act(int position)
{
	note_due(position);
	/* Wait for due promotions before submitting new moves. */
	for (; next_wait_ < plan_.waits.size() && plan_.waits[next_wait_] <= position; next_wait_++)
		wait(plan_.waits[next_wait_]);
	for (; next_move_ < plan_.moves.size() && plan_.moves[next_move_].at <= position;
	     next_move_++)
		submit(next_move_);
	due_ = INT_MAX;
	if (next_deadline_ < by_deadline_.size())
		due_ = plan_.moves[by_deadline_[next_deadline_]].before;
	if (next_move_ < plan_.moves.size())
		due_ = std::min(due_, plan_.moves[next_move_].at);
	if (next_wait_ < plan_.waits.size())
		due_ = std::min(due_, plan_.waits[next_wait_]);
}

/* The step has come to the deadlines up to `position`. */
void Executor::note_due(int position)
{
	uint64_t now = 0;

	for (; next_deadline_ < by_deadline_.size(); next_deadline_++) {
		size_t move = by_deadline_[next_deadline_];
		if (plan_.moves[move].before > position)
			return;
		now = now ? now : clock_();
		due_ns_[move] = now;
	}
}

void Executor::submit(size_t number)
{
	const Move &move = plan_.moves[number];
	PageRange pages = resolve_(move);

	if (pages.size) {
		threads_.submit(pages.start, pages.size, move.to, move.before, number);
		return;
	}
	step_.unresolved++;
	absent_.emplace_back();
	absent_.back().move = number;
	absent_.back().outcome = Outcome::absent;
}

/* Those of this step's moves, with their numbers in the plan. */
std::vector<MoveRecord> Executor::take_records()
{
	std::vector<MoveRecord> records = threads_.take_records();

	records.insert(records.end(), absent_.begin(), absent_.end());
	for (MoveRecord &record : records) {
		record.due_ns = due_ns_[record.move];
		record.move = plan_.moves[record.move].number;
	}
	return records;
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
	step_.records = take_records();
	step_.records.insert(step_.records.end(), more.records.begin(), more.records.end());
	if (typical)
		trial_.step(step_.step_ns, step_.exposed_ns);
	return step_;
}

} // namespace sentinel
