/* SPDX-License-Identifier: Apache-2.0 */
#include "profile_session.h"

#include "clock.h"

namespace sentinel
{

void ProfileSession::begin(bool traced)
{
	step_abandon();
	move_back();
	stage_ = traced ? Stage::traces : Stage::times;
	traced_.reset();
	timed_.reset();
	profile_.reset();
}

int ProfileSession::steps_left() const
{
	return stage_ == Stage::idle ? 0 : int(Stage::counts) - int(stage_) + 1;
}

void ProfileSession::move_to_slow()
{
	if (!node_exists(kSlow))
		return;
	for (auto &block : memory_.blocks()) {
		PageRange pages = pages_of(block.first, block.second.size);
		if (residency(pages.start, pages.size)[kFast] == 0)
			continue;
		move_pages(pages.start, pages.size, kSlow);
		moved_.push_back(pages);
	}
}

void ProfileSession::move_back()
{
	for (const PageRange &pages : moved_)
		move_pages(pages.start, pages.size, kFast);
	moved_.clear();
}

void ProfileSession::step_begin()
{
	static const PageCounts not_counting;

	if (stage_ == Stage::idle)
		return;
	Untraced untraced;
	if (stage_ == Stage::times)
		move_to_slow();
	memory_.clear_records();
	pool_full_ = false;
	counts_.reset(stage_ == Stage::counts ? new PageCounts : nullptr);
	recorder_.reset(new Recorder(counts_ ? *counts_ : not_counting, stage_ == Stage::traces));
	if (!counts_)
		return;
	Mapping *mapping = memory_.mapping(Pool::profile);
	pool_full_ = !mapping->open(mapping->size());
	counts_->add(mapping->base(), mapping->size());
	/* Tensors from before the step are in one of these. */
	for (Pool before : {Pool::ordinary, Pool::unplanned})
		counts_->add(memory_.mapping(before)->base(), memory_.extent(before));
	if (!counts_->start())
		recorder_->warn("no page-access counts by the kernel: " + counts_->error());
}

void ProfileSession::step_abandon()
{
	recorder_.reset();
	counts_.reset();
}

void ProfileSession::step_end(int inter_op, int intra_op)
{
	if (!recorder_)
		return;
	Untraced untraced;
	if (pool_full_)
		recorder_->warn("the profile pool was full: some tensors shared pages");
	std::unique_ptr<Profile> recorded(new Profile(recorder_->finish(clock_name())));
	recorded->inter_op = inter_op;
	recorded->intra_op = intra_op;
	recorder_.reset();
	if (recorded->ops.empty())
		return; /* no operation ran: record the next step instead */
	if (stage_ == Stage::traces) {
		Mapping *ordinary = memory_.mapping(Pool::ordinary);
		recorded->resident =
			resident_runs(ordinary->base(), memory_.extent(Pool::ordinary));
		traced_ = std::move(recorded);
		stage_ = Stage::times;
		return;
	}
	if (stage_ == Stage::times) {
		timed_ = std::move(recorded);
		stage_ = Stage::counts;
		return;
	}
	counts_.reset();
	move_back();
	memory_.trim();
	stage_ = Stage::idle;
	profile_.reset(new Profile(merge_profiles(*timed_, std::move(*recorded))));
	profile_->trace = std::move(traced_);
	timed_.reset();
}

std::unique_ptr<Profile> ProfileSession::end()
{
	step_abandon();
	move_back();
	stage_ = Stage::idle;
	if (!profile_ && timed_) {
		profile_ = std::move(timed_);
		profile_->warnings.push_back("only one step was profiled: no page-access counts");
	}
	return std::move(profile_);
}

void ProfileSession::abandon_in_child()
{
	stage_ = Stage::idle;
	(void)recorder_.release();
	(void)counts_.release();
}

} // namespace sentinel
