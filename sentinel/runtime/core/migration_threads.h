/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The migration threads: one promotes, one demotes (section 5 of the paper), each in the order of
 * its requests. They stay off CPU 0, which computes, if the machine has other CPUs.
 */
#ifndef SENTINEL_RUNTIME_MIGRATION_THREADS_H
#define SENTINEL_RUNTIME_MIGRATION_THREADS_H

#include <cstdint>
#include <functional>
#include <list>
#include <thread>
#include <vector>

#include "memory.h"
#include "move_record.h"
#include "mutex.h"

namespace sentinel
{

/* Moves the pages of [start, start + size) to `node`. Both threads call it at the same time. */
using MoveFunction = std::function<MoveResult(char *start, size_t size, int node)>;

struct MigrationStatistics {
	uint64_t promoted = 0, demoted = 0; /* bytes that are now on the requested node */
	uint64_t failed = 0;		    /* bytes that are not, after two attempts */
	uint64_t absent = 0;		    /* bytes of pages without memory */
	uint64_t retried = 0;		    /* pieces that needed a second attempt */
	uint64_t cancelled = 0;		    /* bytes of cancelled requests */
	uint64_t remaps = 0;		    /* of windows */
	uint64_t copied = 0;		    /* bytes, for them, also in vain */

	MigrationStatistics &operator+=(const MigrationStatistics &other);
};

class MigrationThreads
{
public:
	/* Throws std::system_error if the threads cannot be created. */
	MigrationThreads(MoveFunction move, Clock clock);
	~MigrationThreads();
	MigrationThreads(const MigrationThreads &) = delete;
	MigrationThreads &operator=(const MigrationThreads &) = delete;

	/*
	 * Request a migration of whole pages, due before position `before`. Requests that overlap
	 * run in the order of submission. A request cancels a pending one of exactly the same pages
	 * in the opposite direction. `move` is for its record.
	 */
	void submit(char *start, size_t size, int node, int before, size_t move = 0);

	/* Bytes of unfinished promotions that are due before `position`. */
	size_t late_bytes(int position);

	/* Wait until these are finished. */
	void wait(int position);

	/* Cancel these; a running one ends after its current piece. */
	void cancel_late(int position);

	/* Wait until no request is left. */
	void drain();

	/* Cancel all requests and join the threads. Nothing migrates afterwards. */
	void stop();

	/* Statistics since the last call. */
	MigrationStatistics take_statistics();

	/*
	 * What became of the requests since the last call, in the order of their ends. One that is
	 * unfinished has no outcome, and no other record later. `due_ns` is left out.
	 */
	std::vector<MoveRecord> take_records();

private:
	struct Request {
		char *start;
		size_t size;
		int node, before;
		MoveRecord record{};
		size_t done = 0; /* bytes from the start that were attempted, twice if needed */
		size_t moved = 0, failed = 0;
		bool running = false, cancelled = false;
		bool waits_for_space = false; /* until older demotions have finished */
		bool recorded = false;	      /* as unfinished */

		bool late(int position) const
		{
			return node == kFast && before <= position && !cancelled;
		}
	};
	using Queue = std::list<Request>;

	void run(int node);
	Queue::iterator next(int node) SENTINEL_REQUIRES(mutex_);
	bool any_late(int position) const SENTINEL_REQUIRES(mutex_);
	Queue::iterator cancel(Queue::iterator request, Reason reason) SENTINEL_REQUIRES(mutex_);
	Queue::iterator remove(Queue::iterator request, Outcome outcome) SENTINEL_REQUIRES(mutex_);
	static Outcome outcome_of(const Request &request);
	MoveResult move_unlocked(char *start, size_t size, int node) SENTINEL_REQUIRES(mutex_);
	void migrate(Request &request) SENTINEL_REQUIRES(mutex_);
	void count(const MoveResult &result, Request &request) SENTINEL_REQUIRES(mutex_);

	MoveFunction move_;
	Clock clock_;
	Mutex mutex_;
	Condition changed_;
	Queue queue_ SENTINEL_GUARDED_BY(mutex_); /* oldest first */
	MigrationStatistics statistics_ SENTINEL_GUARDED_BY(mutex_);
	std::vector<MoveRecord> records_ SENTINEL_GUARDED_BY(mutex_);
	bool stop_ SENTINEL_GUARDED_BY(mutex_) = false;
	std::thread threads_[2]; /* by node */
};

} // namespace sentinel

#endif
