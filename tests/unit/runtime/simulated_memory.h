/* SPDX-License-Identifier: Apache-2.0 */
/* Pages without memory behind them, for tests of migration. */
#ifndef SENTINEL_TESTS_SIMULATED_MEMORY_H
#define SENTINEL_TESTS_SIMULATED_MEMORY_H

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "core/migration_threads.h"

constexpr size_t kPiece = 64 * sentinel::kPage; /* of a migration */

/* The address of a simulated page. */
inline char *page_address(size_t page)
{
	return reinterpret_cast<char *>(uintptr_t(1) << 40) + page * sentinel::kPage;
}

/* A clock that moves whenever it is read. */
inline uint64_t tick()
{
	static std::atomic<uint64_t> now{0};

	return ++now;
}

struct SimulatedMemory {
	std::mutex mutex;
	std::condition_variable changed;
	std::map<size_t, int> node;		 /* by page */
	std::map<size_t, int> refusals;		 /* moves of a page that will fail */
	std::vector<std::pair<size_t, int>> log; /* first page and node of every move */
	bool gate_open = true;			 /* else moves block */
	bool bad_size = false;			 /* a move was no piece of whole pages */
	int running = 0;			 /* moves */

	sentinel::MoveResult move(char *start, size_t size, int to)
	{
		using sentinel::kPage;
		std::unique_lock<std::mutex> lock(mutex);
		sentinel::MoveResult result;
		size_t page = (start - page_address(0)) / kPage;

		bad_size |= !size || size % kPage || size > kPiece;
		log.emplace_back(page, to);
		running++;
		changed.notify_all();
		changed.wait(lock, [this] { return gate_open; });
		running--;
		for (; size; page++, size -= kPage) {
			if (refusals[page] > 0) {
				refusals[page]--;
				result.failed += kPage;
			} else {
				node[page] = to;
				result.moved += kPage;
			}
		}
		return result;
	}

	void set_gate(bool open)
	{
		std::lock_guard<std::mutex> lock(mutex);
		gate_open = open;
		changed.notify_all();
	}

	void wait_running(int moves)
	{
		std::unique_lock<std::mutex> lock(mutex);
		changed.wait(lock, [&] { return running == moves; });
	}

	sentinel::MoveFunction function()
	{
		return [this](char *start, size_t size, int to) { return move(start, size, to); };
	}
};

#endif
