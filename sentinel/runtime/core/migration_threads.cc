/* SPDX-License-Identifier: Apache-2.0 */
#include "migration_threads.h"

#include <pthread.h>

#include <algorithm>
#include <iterator>

#include "migration_cores.h"

namespace sentinel
{
namespace
{

/* Requests are migrated in pieces, so that a cancelled one ends soon. */
constexpr size_t kPiece = 64 * kPage;

bool overlap(const char *a, size_t a_size, const char *b, size_t b_size)
{
	return a < b + b_size && b < a + a_size;
}

} // namespace

MigrationStatistics &MigrationStatistics::operator+=(const MigrationStatistics &other)
{
	promoted += other.promoted;
	demoted += other.demoted;
	failed += other.failed;
	absent += other.absent;
	retried += other.retried;
	cancelled += other.cancelled;
	remaps += other.remaps;
	copied += other.copied;
	return *this;
}

MigrationThreads::MigrationThreads(MoveFunction move, Clock clock)
    : move_(std::move(move)), clock_(std::move(clock))
{
	try {
		for (int node : {kFast, kSlow})
			threads_[node] = std::thread([this, node] { run(node); });
	} catch (...) {
		stop(); /* join the first thread if only the second could not be created */
		throw;
	}
}

MigrationThreads::~MigrationThreads()
{
	stop();
}

void MigrationThreads::stop()
{
	{
		MutexLock lock(mutex_);
		stop_ = true;
		for (auto request = queue_.begin(); request != queue_.end();)
			request = cancel(request, Reason::stopped);
		changed_.notify_all();
	}
	for (std::thread &thread : threads_)
		if (thread.joinable())
			thread.join();
}

/* A running request ends after its current piece; its thread removes it. */
MigrationThreads::Queue::iterator MigrationThreads::cancel(Queue::iterator request, Reason reason)
{
	request->record.reason = reason;
	if (request->running) {
		request->cancelled = true;
		return std::next(request);
	}
	statistics_.cancelled += request->size - request->done;
	return remove(request, Outcome::cancelled);
}

MigrationThreads::Queue::iterator MigrationThreads::remove(Queue::iterator request, Outcome outcome)
{
	request->record.outcome = outcome;
	if (outcome != Outcome::cancelled) /* it was too late to cancel it */
		request->record.reason = Reason::none;
	if (!request->recorded)
		records_.push_back(request->record);
	return queue_.erase(request);
}

void MigrationThreads::submit(char *start, size_t size, int node, int before, size_t move)
{
	MutexLock lock(mutex_);
	Request request{start, size, node, before};

	if (stop_)
		return;
	for (auto other = queue_.begin(); other != queue_.end();) {
		bool opposite = other->node != node && other->start == start && other->size == size;
		if (opposite && !other->running)
			other = cancel(other, Reason::superseded);
		else
			++other;
	}
	request.record.move = move;
	request.record.ready_ns = clock_();
	queue_.push_back(request);
	changed_.notify_all();
}

/*
 * The oldest request of this thread that may run now. A request waits only for older ones: for
 * those that overlap it, and, if there was no space for it, for older demotions. Promotions behind
 * one that waits for space wait too. So the oldest request never waits, and there is no deadlock.
 */
MigrationThreads::Queue::iterator MigrationThreads::next(int node)
{
	bool older_demotions = false;

	for (auto request = queue_.begin(); request != queue_.end(); ++request) {
		if (request->node == node && !request->running) {
			if (request->waits_for_space && older_demotions)
				return queue_.end();
			bool free =
				std::none_of(queue_.begin(), request, [&](const Request &older) {
					return overlap(older.start, older.size, request->start,
						       request->size);
				});
			if (free)
				return request;
		}
		older_demotions |= request->node == kSlow;
	}
	return queue_.end();
}

void MigrationThreads::run(int node)
{
	leave_cpu_0();
	pthread_setname_np(pthread_self(), node == kFast ? "promote" : "demote");
	MutexLock lock(mutex_);

	while (!stop_) {
		auto request = next(node);
		if (request == queue_.end()) {
			changed_.wait(mutex_);
			continue;
		}
		request->running = true;
		migrate(*request);
		request->running = false;
		if (request->done == request->size)
			remove(request, outcome_of(*request));
		else if (request->cancelled)
			cancel(request, request->record.reason);
		changed_.notify_all();
	}
}

void MigrationThreads::count(const MoveResult &result, Request &request)
{
	(request.node == kFast ? statistics_.promoted : statistics_.demoted) += result.moved;
	statistics_.absent += result.absent;
	statistics_.failed += result.failed;
	request.moved += result.moved;
	request.failed += result.failed;
}

/* By what most of its pages are. */
Outcome MigrationThreads::outcome_of(const Request &request)
{
	if (request.failed > request.moved)
		return Outcome::failed;
	return request.moved ? Outcome::moved : Outcome::absent;
}

MoveResult MigrationThreads::move_unlocked(char *start, size_t size, int node)
{
	mutex_.unlock();
	MoveResult result = move_(start, size, node);
	mutex_.lock();
	return result;
}

/* Migrate piece by piece until the request is done, is cancelled or has to wait for space. */
void MigrationThreads::migrate(Request &request)
{
	while (request.done < request.size && !request.cancelled) {
		char *start = request.start + request.done;
		size_t size = std::min(kPiece, request.size - request.done);
		bool second_attempt = request.waits_for_space;
		if (!request.record.begin_ns)
			request.record.begin_ns = clock_();
		MoveResult result = move_unlocked(start, size, request.node);

		if (result.failed && !second_attempt && !request.cancelled) {
			statistics_.retried++;
			if (request.node == kFast) {
				request.waits_for_space = true;
				return;
			}
			result = move_unlocked(start, size, request.node);
		}
		request.waits_for_space = false;
		count(result, request);
		request.done += size;
		request.record.end_ns = clock_();
	}
}

bool MigrationThreads::any_late(int position) const
{
	return std::any_of(queue_.begin(), queue_.end(),
			   [position](const Request &request) { return request.late(position); });
}

size_t MigrationThreads::late_bytes(int position)
{
	MutexLock lock(mutex_);
	size_t bytes = 0;

	for (const Request &request : queue_)
		if (request.late(position))
			bytes += request.size;
	return bytes;
}

void MigrationThreads::wait(int position)
{
	MutexLock lock(mutex_);

	while (any_late(position))
		changed_.wait(mutex_);
}

void MigrationThreads::cancel_late(int position)
{
	MutexLock lock(mutex_);

	for (auto request = queue_.begin(); request != queue_.end();) {
		if (request->late(position))
			request = cancel(request, Reason::given_up);
		else
			++request;
	}
	changed_.notify_all();
}

std::vector<MoveRecord> MigrationThreads::take_records()
{
	MutexLock lock(mutex_);
	std::vector<MoveRecord> records;

	records.swap(records_);
	for (Request &request : queue_) {
		if (!request.recorded)
			records.push_back(request.record);
		request.recorded = true;
	}
	return records;
}

void MigrationThreads::drain()
{
	MutexLock lock(mutex_);

	while (!queue_.empty())
		changed_.wait(mutex_);
}

MigrationStatistics MigrationThreads::take_statistics()
{
	MutexLock lock(mutex_);
	MigrationStatistics taken = statistics_;

	statistics_ = MigrationStatistics();
	return taken;
}

} // namespace sentinel
