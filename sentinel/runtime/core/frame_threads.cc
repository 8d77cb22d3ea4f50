/* SPDX-License-Identifier: Apache-2.0 */
/* The migration threads of FrameExecutor, and what happens between steps and in forks. */
#include <pthread.h>

#include <cstring>
#include <string>

#include "frame_executor.h"

namespace sentinel
{

void FrameExecutor::run(int core)
{
	run_on_migration_core(core);
	pthread_setname_np(pthread_self(), ("migrate" + std::to_string(core)).c_str());
	MutexLock lock(mutex_);

	while (!stop_)
		if (!work() && !return_window())
			work_.wait(mutex_);
}

/* Do the next thing in the plan's order. False if there is nothing to do. */
bool FrameExecutor::work()
{
	using Kind = FrameWork::Kind;

	if (!in_step_ || suspended_)
		return false;
	FrameWork next = moves_.next_work();
	switch (next.kind) {
	case Kind::none:
		return false;
	case Kind::start:
		moves_.start(next.move, clock_());
		protect(moves_.group_of(next.move), true);
		wake_if_ready(); /* others share a large copy */
		break;
	case Kind::copy:
		copy(next);
		break;
	case Kind::remap:
		remap(next.move);
		break;
	case Kind::resolve:
		moves_.resolve_resident(next.move);
		changed_.notify_all();
		break;
	}
	return true;
}

void FrameExecutor::copy(const FrameWork &chunk)
{
	const FrameGroup &g = moves_.groups[moves_.group_of(chunk.move)];
	char *home = home_.view() + g.offset + chunk.offset;
	char *frame = pool_->view() + g.occupied + chunk.offset;
	bool promotes = moves_[chunk.move].to == kFast;

	moves_.take_chunk(chunk);
	mutex_.unlock();
	memcpy(promotes ? frame : home, promotes ? home : frame, chunk.size);
	uint64_t now = clock_();
	mutex_.lock();
	statistics_.copied += chunk.size;
	moves_.chunk_copied(chunk.move, chunk.size, now);
	unprotect_resolved(chunk.move);
	if (moves_.may_remap(chunk.move))
		remap(chunk.move);
	changed_.notify_all();
}

/* End a move whose copy is complete. */
void FrameExecutor::remap(size_t move)
{
	size_t group = moves_.group_of(move);
	bool promotes = moves_[move].to == kFast;

	moves_.state(move).stage = FrameMoves::Stage::remapping;
	bool success = show(group, promotes ? moves_[move].frame : kNoFrame);
	moves_.remapped(move, success, clock_());
	size_t size = moves_.groups[group].size;
	if (!success)
		statistics_.failed += size;
	else
		(promotes ? statistics_.promoted : statistics_.demoted) += size;
	changed_.notify_all();
	wake_if_ready(); /* a range may be free now */
}

/* Remap a window, without the mutex. */
bool FrameExecutor::show(size_t group, size_t frame)
{
	FrameGroup &g = moves_.groups[group];

	if (g.shown == frame)
		return true;
	protect(group, false);
	g.remapping = true;
	remapping_++;
	mutex_.unlock();
	bool success = windows_.show(int(group), frame);
	mutex_.lock();
	g.remapping = false;
	remapping_--;
	if (success) {
		g.shown = frame;
		statistics_.remaps++;
	}
	changed_.notify_all();
	return success;
}

/* Other threads may read the group: it is a tensor that outlived its step. */
void FrameExecutor::show_home(size_t group)
{
	windows_.show_home(int(group));
	moves_.groups[group].shown = kNoFrame;
	pool_returns_ = UINT64_MAX; /* populate again */
}

/* In debug mode: refuse writes from the begin of a copy to the end of the move. */
void FrameExecutor::protect(size_t group, bool is_protected)
{
	FrameGroup &g = moves_.groups[group];

	if (!guard_ || g.is_protected == is_protected)
		return;
	windows_.protect(int(group), is_protected);
	g.is_protected = is_protected;
}

void FrameExecutor::unprotect_resolved(size_t move)
{
	if (moves_.state(move).stage == FrameMoves::Stage::resolved)
		protect(moves_.group_of(move), false);
}

/* Return the window of a group that has died to its birth place. False if there is none. */
bool FrameExecutor::return_window()
{
	while (!returning_.empty() && !suspended_) {
		size_t group = returning_.back();
		const FrameGroup &g = moves_.groups[group];
		returning_.pop_back();
		if (g.live || g.remapping || g.shown == g.birth_frame)
			continue;
		show(group, g.birth_frame);
		return true;
	}
	return false;
}

void FrameExecutor::wake_if_ready()
{
	if ((in_step_ && moves_.next_work().kind != FrameWork::Kind::none) || !returning_.empty())
		work_.notify_all();
}

/* Between steps: wait until no window is being remapped. */
void FrameExecutor::quiesce()
{
	returning_.clear();
	while (remapping_)
		changed_.wait(mutex_);
}

void FrameExecutor::suspend()
{
	MutexLock lock(mutex_);

	suspended_ = true;
	quiesce();
	for (size_t i = 0; i < moves_.groups.size(); i++) {
		FrameGroup &g = moves_.groups[i];
		if (!g.live || !g.is_fast())
			continue;
		memcpy(home_.view() + g.offset, pool_->view() + g.shown, g.size);
		show_home(i);
		moves_.groups.vacate(i);
	}
}

void FrameExecutor::resume()
{
	MutexLock lock(mutex_);

	if (pool_returns_ != pool_->returns()) {
		pool_->populate(0, frames_);
		windows_.populate();
		pool_returns_ = pool_->returns();
	}
	suspended_ = false;
	for (size_t i = 0; i < moves_.groups.size(); i++)
		if (!moves_.groups[i].live &&
		    moves_.groups[i].shown != moves_.groups[i].birth_frame)
			returning_.push_back(i);
	wake_if_ready();
}

void FrameExecutor::retire()
{
	suspend();
	stop();
	MutexLock lock(mutex_);
	bool detached = true;
	for (size_t i = 0; i < moves_.groups.size(); i++)
		detached &= windows_.detach(int(i), moves_.groups[i].live > 0);
	if (detached)
		windows_.unmap_parked();
}

void FrameExecutor::before_fork()
{
	mutex_.lock();
	while (remapping_)
		changed_.wait(mutex_);
}

void FrameExecutor::after_fork_in_parent()
{
	mutex_.unlock();
}

/* The object is leaked: its threads do not exist here. */
void FrameExecutor::after_fork_in_child()
{
	for (size_t i = 0; i < moves_.groups.size(); i++)
		windows_.detach(int(i), moves_.groups[i].live > 0);
	windows_.unmap_parked();
	home_.abandon();
	pool_->abandon();
	mutex_.unlock();
}

} // namespace sentinel
