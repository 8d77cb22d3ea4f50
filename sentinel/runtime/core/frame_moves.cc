/* SPDX-License-Identifier: Apache-2.0 */
#include "frame_moves.h"

#include <algorithm>
#include <climits>

namespace sentinel
{
namespace
{

/* A cancelled copy ends after its running chunks, and several threads share a large one. */
constexpr size_t kChunk = 64 << 10;

} // namespace

FrameMoves::FrameMoves(const Plan &plan) : groups(plan), watermark(plan)
{
	for (size_t i = 0; i < plan.moves.size(); i++) {
		const Move &move = plan.moves[i];
		if (move.tensor >= 0)
			continue;
		size_t group = groups.find(move.offset);
		groups[group].moves.push_back(moves_.size());
		group_of_.push_back(group);
		by_before_.push_back(moves_.size());
		plan_index_.push_back(i);
		moves_.push_back(move);
	}
	std::stable_sort(by_before_.begin(), by_before_.end(), [this](size_t a, size_t b) {
		return moves_[a].before < moves_[b].before;
	});
	step_begin();
}

void FrameMoves::step_begin()
{
	states_.assign(moves_.size(), State());
	for (size_t i = 0; i < moves_.size(); i++)
		states_[i].record.move = plan_index_[i];
	for (size_t i = 0; i < groups.size(); i++) {
		groups[i].next_move = 0;
		groups[i].holders = 0;
		groups[i].outlived = groups[i].live > 0;
	}
	watermark.step_begin();
	first_ = next_due_ = next_ready_ = 0;
}

int FrameMoves::next_due() const
{
	return next_due_ < by_before_.size() ? moves_[by_before_[next_due_]].before : INT_MAX;
}

std::vector<size_t> FrameMoves::take_due(int position, uint64_t now)
{
	std::vector<size_t> due;

	for (; next_due() <= position; next_due_++) {
		State &s = states_[by_before_[next_due_]];
		s.record.due_ns = now;
		if (s.stage != Stage::resolved)
			due.push_back(by_before_[next_due_]);
	}
	std::sort(due.begin(), due.end());
	return due;
}

void FrameMoves::note_ready(const Clock &clock)
{
	int reached = watermark.position();

	if (next_ready_ == moves_.size() || moves_[next_ready_].at > reached)
		return;
	uint64_t now = clock();
	for (; next_ready_ < moves_.size() && moves_[next_ready_].at <= reached; next_ready_++)
		states_[next_ready_].record.ready_ns = now;
}

bool FrameMoves::is_next_of_group(size_t move) const
{
	const FrameGroup &g = groups[group_of_[move]];

	return g.next_move < g.moves.size() && g.moves[g.next_move] == move;
}

bool FrameMoves::is_resident(size_t move) const
{
	const FrameGroup &g = groups[group_of_[move]];

	return g.live && g.is_fast() == (moves_[move].to == kFast);
}

/* Whether the copy may begin now. A promotion needs its range of the pool. */
bool FrameMoves::may_start(size_t move) const
{
	const FrameGroup &g = groups[group_of_[move]];

	return moves_[move].at <= watermark.position() && is_next_of_group(move) && g.live &&
	       !g.outlived && !g.remapping &&
	       (moves_[move].to != kFast ||
		groups.occupants(group_of_[move], moves_[move].frame).empty());
}

bool FrameMoves::may_remap(size_t move) const
{
	const State &s = states_[move];

	return s.stage == Stage::copied && !s.cancelled &&
	       moves_[move].map <= watermark.position() && !groups[group_of_[move]].holders;
}

FrameWork FrameMoves::next_work()
{
	using Kind = FrameWork::Kind;

	while (first_ < moves_.size() && states_[first_].stage == Stage::resolved)
		first_++;
	for (size_t i = first_; i < moves_.size() && moves_[i].at <= watermark.position(); i++) {
		const State &s = states_[i];
		size_t size = groups[group_of_[i]].size;
		if (s.stage == Stage::waiting && may_start(i))
			return {is_resident(i) ? Kind::resolve : Kind::start, i, 0, 0};
		if (s.stage == Stage::copying && !s.cancelled && s.next < size)
			return {Kind::copy, i, s.next, std::min(kChunk, size - s.next)};
		if (may_remap(i))
			return {Kind::remap, i, 0, 0};
	}
	return {Kind::none, 0, 0, 0};
}

/*
 * A demotion that the plan has no copy for needs one if the promotion before it was not executed,
 * or an operation that the plan does not know wrote to the group.
 */
void FrameMoves::start(size_t move, uint64_t now)
{
	FrameGroup &g = groups[group_of_[move]];
	State &s = states_[move];

	if (moves_[move].to == kFast)
		groups.occupy(group_of_[move], moves_[move].frame);
	s.copies = moves_[move].copy || !g.home_is_current;
	s.stage = s.copies ? Stage::copying : Stage::copied;
	s.record.begin_ns = now;
	if (!s.copies)
		s.record.end_ns = now;
}

void FrameMoves::take_chunk(const FrameWork &work)
{
	states_[work.move].next += work.size;
	states_[work.move].running++;
}

void FrameMoves::chunk_copied(size_t move, size_t size, uint64_t now)
{
	State &s = states_[move];

	s.running--;
	s.copied += size;
	if (s.cancelled) {
		if (!s.running)
			resolve(move, Outcome::cancelled);
	} else if (s.copied == groups[group_of_[move]].size) {
		s.stage = Stage::copied;
		s.record.end_ns = now;
	}
}

void FrameMoves::remapped(size_t move, bool success, uint64_t now)
{
	size_t group = group_of_[move];
	FrameGroup &g = groups[group];

	g.remapping = false;
	states_[move].record.remap_ns = now;
	if (success) {
		g.shown = moves_[move].to == kFast ? moves_[move].frame : kNoFrame;
		g.home_is_current = g.is_fast();
		if (!g.is_fast())
			groups.vacate(group);
	}
	resolve(move, success ? Outcome::moved : Outcome::failed);
}

bool FrameMoves::resolve_resident(size_t move)
{
	if (states_[move].stage != Stage::waiting || !is_resident(move))
		return false;
	/* The demotion before it was cancelled, so the home is of an earlier time. */
	if (moves_[move].to == kFast)
		groups[group_of_[move]].home_is_current = false;
	resolve(move, Outcome::resident);
	return true;
}

void FrameMoves::cancel(size_t move, Reason reason)
{
	State &s = states_[move];

	s.cancelled = true;
	s.record.reason = reason;
	if (!s.running)
		resolve(move, groups[group_of_[move]].live || s.stage != Stage::waiting
				      ? Outcome::cancelled
				      : Outcome::absent);
}

void FrameMoves::resolve(size_t move, Outcome outcome)
{
	size_t group = group_of_[move];
	FrameGroup &g = groups[group];
	State &s = states_[move];

	/* A promotion that was not executed gives its range back. */
	if (s.stage != Stage::waiting && moves_[move].to == kFast && !g.is_fast())
		groups.vacate(group);
	s.stage = Stage::resolved;
	s.record.outcome = outcome;
	while (g.next_move < g.moves.size() &&
	       states_[g.moves[g.next_move]].stage == Stage::resolved)
		g.next_move++;
}

/* Demotions that have begun, or may begin, make room for it. */
bool FrameMoves::can_finish(size_t move) const
{
	auto is_ready = [this](size_t m) {
		const FrameGroup &g = groups[group_of_[m]];
		return g.live && !g.outlived && !g.holders && is_next_of_group(m) &&
		       !states_[m].cancelled && moves_[m].map <= watermark.position();
	};

	if (states_[move].stage == Stage::remapping)
		return true;
	if (!is_ready(move))
		return false;
	if (states_[move].stage != Stage::waiting || moves_[move].to != kFast)
		return true;
	std::vector<size_t> others = groups.occupants(group_of_[move], moves_[move].frame);
	return std::all_of(others.begin(), others.end(), [&](size_t other) {
		const FrameGroup &g = groups[other];
		return g.remapping ||
		       (g.next_move < g.moves.size() && moves_[g.moves[g.next_move]].to != kFast &&
			is_ready(g.moves[g.next_move]));
	});
}

size_t FrameMoves::in_flight(size_t group) const
{
	const FrameGroup &g = groups[group];

	if (g.next_move == g.moves.size())
		return size();
	size_t move = g.moves[g.next_move];
	Stage stage = states_[move].stage;
	return stage == Stage::waiting || stage == Stage::resolved ? size() : move;
}

} // namespace sentinel
