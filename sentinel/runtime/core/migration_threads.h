/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads that move pages: one promotes, one demotes (section 5 of the paper), each in the
 * order of its orders. They stay off CPU 0, which computes, where there are others.
 */
#ifndef SENTINEL_RUNTIME_MIGRATION_THREADS_H
#define SENTINEL_RUNTIME_MIGRATION_THREADS_H

#include <cstdint>
#include <functional>
#include <list>
#include <thread>

#include "memory.h"
#include "mutex.h"

namespace sentinel
{

/* Moves the pages of [start, start + size) to `node`. Called by several threads at once. */
using MoveFunction = std::function<Moved(char *start, size_t size, int node)>;

struct MoveStatistics {
	uint64_t promoted = 0, demoted = 0; /* bytes that are where they should be now */
	uint64_t failed = 0;		    /* bytes that are not, though tried twice */
	uint64_t absent = 0;		    /* bytes that nobody had touched */
	uint64_t retried = 0;		    /* moves that needed a second try */
	uint64_t cancelled = 0;		    /* bytes of moves that were called off */
};

class Helpers
{
      public:
	/* Throws std::system_error if the system gives no threads. */
	explicit Helpers(MoveFunction move);
	~Helpers();
	Helpers(const Helpers &) = delete;
	Helpers &operator=(const Helpers &) = delete;

	/*
	 * Order a move of whole pages. Moves that overlap are carried out in the order of their
	 * orders; a demotion that has not begun is called off by a promotion of the same pages, and
	 * vice versa.
	 */
	void order(char *start, size_t size, int node, int before);

	/* Bytes of promotions to be done before `position` that are not. */
	size_t late(int position);

	/* Wait until these are done. */
	void wait(int position);

	/* Call off what of these has not begun; what has goes on to the end of its piece. */
	void leave(int position);

	/* Wait until nothing is left to do. */
	void drain();

	/* Call off what has not begun, and join the threads. Nothing moves afterwards. */
	void stop();

	/* Since the last call. */
	MoveStatistics take_statistics();

      private:
	struct Order {
		char *start;
		size_t size;
		int node, before;
		size_t done = 0; /* bytes from the start that were tried, twice if need be */
		bool running = false, cancelled = false;
		bool waits_for_room = false; /* for demotions ordered before it */
	};
	using Orders = std::list<Order>;

	void run(int node);
	Orders::iterator next(int node) SENTINEL_REQUIRES(mutex_);
	bool pending(int position) const SENTINEL_REQUIRES(mutex_);
	Orders::iterator call_off(Orders::iterator order) SENTINEL_REQUIRES(mutex_);
	Moved move_unlocked(char *start, size_t size, int node) SENTINEL_REQUIRES(mutex_);
	void carry_out(Order &order) SENTINEL_REQUIRES(mutex_);
	void add(const Moved &moved, int node) SENTINEL_REQUIRES(mutex_);

	MoveFunction move_;
	Mutex mutex_;
	Condition changed_;
	Orders orders_ SENTINEL_GUARDED_BY(mutex_); /* oldest first */
	MoveStatistics statistics_ SENTINEL_GUARDED_BY(mutex_);
	bool stop_ SENTINEL_GUARDED_BY(mutex_) = false;
	std::thread threads_[2]; /* by node */
};

} // namespace sentinel

#endif
