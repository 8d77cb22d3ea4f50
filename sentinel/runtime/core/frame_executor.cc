/* SPDX-License-Identifier: Apache-2.0 */
#include "frame_executor.h"

#include <algorithm>
#include <string>

#include "memory.h"

namespace sentinel
{

FrameExecutor::FrameExecutor(const Plan &plan, Mapping &arena, std::shared_ptr<MemoryFile> pool,
			     Clock clock, int threads)
    : base_(arena.base()), arena_size_(arena.size()), frames_(plan.frames),
      clock_(std::move(clock)), pool_(std::move(pool)), home_("sentinel-home", kSlow),
      windows_(plan, arena, home_, *pool_), moves_(plan)
{
	if (WriteGuard::is_requested())
		guard_.reset(new WriteGuard(plan, base_));
	home_.resize(arena_size_);
	for (size_t i = 0; i < moves_.groups.size(); i++)
		home_.populate(moves_.groups[i].offset, moves_.groups[i].size);
	try {
		for (int i = 0; i < threads; i++)
			threads_.emplace_back([this, i] { run(i); });
	} catch (...) {
		stop();
		throw;
	}
}

FrameExecutor::~FrameExecutor()
{
	stop();
}

void FrameExecutor::stop()
{
	{
		MutexLock lock(mutex_);
		stop_ = true;
		work_.notify_all();
	}
	for (std::thread &thread : threads_)
		if (thread.joinable())
			thread.join();
}

void FrameExecutor::step_begin(uint64_t step, bool waits)
{
	MutexLock lock(mutex_);

	moves_.step_begin();
	for (std::vector<Held> &held : held_)
		held.clear();
	statistics_ = MigrationStatistics();
	late_ = exposed_ns_ = 0;
	step_ = step;
	in_step_ = true;
	waits_ = waits;
	next_due_ = moves_.next_due();
	moves_.note_ready(clock_);
	wake_if_ready();
}

/* The step is over, so the groups are dead, or outlive it where they are. */
void FrameExecutor::step_end(StepStatistics &statistics)
{
	MutexLock lock(mutex_);

	for (size_t i = 0; i < moves_.size(); i++)
		resolve(i, false, Reason::step_end);
	in_step_ = false;
	statistics.moves += statistics_;
	statistics.late += late_;
	statistics.exposed_ns += exposed_ns_;
	for (size_t i = 0; i < moves_.size(); i++)
		statistics.records.push_back(moves_.state(i).record);
}

void FrameExecutor::resolve_due(int position)
{
	MutexLock lock(mutex_);

	if (!in_step_)
		return;
	std::vector<size_t> due = moves_.take_due(position, clock_());
	for (size_t move : due)
		if (moves_[move].to == kFast && moves_.groups[moves_.group_of(move)].live &&
		    !moves_.resolve_resident(move))
			late_ += moves_.groups[moves_.group_of(move)].size;
	/* What follows needs the frames of a demotion: without them many births would be crowded.
	 */
	for (size_t move : due) {
		bool waits = waits_ || moves_[move].to == kSlow;
		resolve(move, waits, waits ? Reason::stuck : Reason::given_up);
	}
	next_due_ = moves_.next_due();
	wake_if_ready();
}

/* Wait for the move if that helps, else cancel it for this reason. What is copied is remapped. */
void FrameExecutor::resolve(size_t move, bool waits, Reason unless)
{
	using Stage = FrameMoves::Stage;
	const FrameMoves::State &s = moves_.state(move);

	while (s.stage != Stage::resolved) {
		if (s.stage == Stage::remapping || (s.cancelled && s.running)) {
			changed_.wait(mutex_);
		} else if (moves_.may_remap(move)) {
			remap(move);
		} else if (moves_.resolve_resident(move)) {
			continue;
		} else if (waits && !suspended_ && moves_.can_finish(move)) {
			uint64_t begin = clock_();
			work_.notify_all();
			changed_.wait(mutex_);
			exposed_ns_ += clock_() - begin;
		} else {
			moves_.cancel(move, unless);
			uint64_t &bytes = s.record.outcome == Outcome::absent
						  ? statistics_.absent
						  : statistics_.cancelled;
			bytes += moves_.groups[moves_.group_of(move)].size;
			unprotect_resolved(move);
		}
	}
}

/* The group has been written, or is gone: a copy of it is of no use. */
void FrameExecutor::drop(size_t group, Reason reason)
{
	size_t move = moves_.in_flight(group);

	while (moves_.groups[group].remapping)
		changed_.wait(mutex_);
	if (move < moves_.size() && moves_.state(move).stage != FrameMoves::Stage::resolved) {
		if (!moves_.state(move).cancelled) {
			statistics_.cancelled += moves_.groups[group].size;
			moves_.cancel(move, reason);
			unprotect_resolved(move);
		}
		while (moves_.state(move).stage != FrameMoves::Stage::resolved)
			changed_.wait(mutex_);
	}
	moves_.groups[group].home_is_current = false;
}

void FrameExecutor::hold_group(size_t group, int run, bool is_born)
{
	if (held_.size() <= size_t(run))
		held_.resize(size_t(run) + 1);
	held_[size_t(run)].push_back({group, is_born});
	moves_.groups[group].holders++;
}

GroupSpan FrameExecutor::groups_of(const TensorRange &tensor) const
{
	return moves_.groups.overlapping(size_t(tensor.start - base_), tensor.size);
}

void FrameExecutor::hold(uint64_t step, int run, const std::vector<TensorRange> &tensors)
{
	MutexLock lock(mutex_);

	if (!is_step(step))
		return;
	for (const TensorRange &tensor : tensors) {
		GroupSpan span = groups_of(tensor);
		for (size_t i = span.first; i < span.end; i++) {
			/* From here on no other remap begins. */
			hold_group(i, run, false);
			while (moves_.groups[i].remapping)
				changed_.wait(mutex_);
		}
	}
}

void FrameExecutor::op_ended(uint64_t step, int run, int use,
			     const std::vector<TensorRange> &written)
{
	MutexLock lock(mutex_);
	bool changed = false;

	if (!is_step(step))
		return;
	for (const TensorRange &tensor : written) {
		GroupSpan span = groups_of(tensor);
		for (size_t i = span.first; i < span.end; i++)
			drop(i, Reason::written);
	}
	if (size_t(run) < held_.size()) {
		for (const Held &held : held_[size_t(run)]) {
			if (held.is_born)
				drop(held.group, Reason::written);
			moves_.groups[held.group].holders--;
			changed = true;
		}
		held_[size_t(run)].clear();
	}
	if (use >= 0 && moves_.watermark.end(use)) {
		moves_.note_ready(clock_);
		changed = true;
	}
	if (changed)
		wake_if_ready();
}

size_t FrameExecutor::tensor_born(const char *start, size_t size, int run)
{
	MutexLock lock(mutex_);
	FrameGroups &groups = moves_.groups;
	GroupSpan span = groups_of({start, size});
	size_t crowded = 0;

	for (size_t i = span.first; i < span.end; i++) {
		FrameGroup &g = groups[i];
		bool first = !g.live++;
		if (run >= 0 && in_step_)
			hold_group(i, run, true);
		while (g.remapping)
			changed_.wait(mutex_);
		if (!first)
			continue;
		g.home_is_current = g.outlived = false;
		size_t frame = suspended_ ? kNoFrame : g.birth_frame;
		if (frame != kNoFrame && !groups.occupy(i, frame)) {
			crowded += g.size;
			frame = kNoFrame;
		}
		if (!show(i, frame)) {
			groups.vacate(i);
			show_home(i);
		}
	}
	return crowded;
}

void FrameExecutor::tensor_died(const char *start, size_t size)
{
	MutexLock lock(mutex_);
	FrameGroups &groups = moves_.groups;
	GroupSpan span = groups_of({start, size});

	for (size_t i = span.first; i < span.end; i++) {
		FrameGroup &g = groups[i];
		if (--g.live)
			continue;
		drop(i, Reason::died);
		groups.vacate(i);
		if (g.shown != g.birth_frame && !suspended_)
			returning_.push_back(i);
	}
	wake_if_ready();
}

std::vector<size_t> FrameExecutor::residency() const
{
	std::vector<size_t> bytes = sentinel::residency(home_.view(), home_.size());
	std::vector<size_t> fast = sentinel::residency(pool_->view(), pool_->size());

	return {bytes[0] + fast[0], bytes[1] + fast[1]};
}

} // namespace sentinel
