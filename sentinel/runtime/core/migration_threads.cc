/* SPDX-License-Identifier: Apache-2.0 */
#include "migration_threads.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <iterator>

namespace sentinel
{
namespace
{

/* Moves are made in pieces, so that one which is called off in its midst ends soon. */
constexpr size_t kPiece = 64 * kPage;

/*
 * Training runs on CPU 0 and binds itself to it, which threads inherit; so ask for every other CPU,
 * whatever this thread may use. The kernel takes those that there are.
 */
void stay_off_cpu_0()
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	for (int cpu = 1; cpu < CPU_SETSIZE; cpu++)
		CPU_SET(cpu, &cpus);
	(void)sched_setaffinity(0, sizeof(cpus), &cpus); /* fails where there is only CPU 0 */
}

bool overlap(const char *a, size_t a_size, const char *b, size_t b_size)
{
	return a < b + b_size && b < a + a_size;
}

} // namespace

Helpers::Helpers(MoveFunction move) : move_(std::move(move))
{
	try {
		for (int node : {kFast, kSlow})
			threads_[node] = std::thread([this, node] { run(node); });
	} catch (...) {
		stop(); /* the first one, if only the second could not be had */
		throw;
	}
}

Helpers::~Helpers()
{
	stop();
}

void Helpers::stop()
{
	{
		MutexLock lock(mutex_);
		stop_ = true;
		for (auto order = orders_.begin(); order != orders_.end();)
			order = call_off(order);
		changed_.notify_all();
	}
	for (std::thread &thread : threads_)
		if (thread.joinable())
			thread.join();
}

/* A running one ends with its piece, and is taken off the list by its thread. */
Helpers::Orders::iterator Helpers::call_off(Orders::iterator order)
{
	if (order->running) {
		order->cancelled = true;
		return std::next(order);
	}
	statistics_.cancelled += order->size - order->done;
	return orders_.erase(order);
}

void Helpers::order(char *start, size_t size, int node, int before)
{
	MutexLock lock(mutex_);

	if (stop_)
		return;
	for (auto other = orders_.begin(); other != orders_.end();) {
		bool opposite = other->node != node && other->start == start && other->size == size;
		if (opposite && !other->running)
			other = call_off(other);
		else
			++other;
	}
	orders_.push_back(Order{start, size, node, before});
	changed_.notify_all();
}

/*
 * The first order of this thread that may be carried out now. It waits for older orders only: for
 * those of the same pages, and for older demotions if it found no room. Promotions behind one that
 * waits for room wait with it, older ones do not. So the oldest order of all never waits, and
 * there is always one that goes on.
 */
Helpers::Orders::iterator Helpers::next(int node)
{
	bool demotions = false;

	for (auto order = orders_.begin(); order != orders_.end(); ++order) {
		if (order->node == node && !order->running) {
			if (order->waits_for_room && demotions)
				return orders_.end();
			bool free = std::none_of(orders_.begin(), order, [&](const Order &older) {
				return overlap(older.start, older.size, order->start, order->size);
			});
			if (free)
				return order;
		}
		demotions |= order->node == kSlow;
	}
	return orders_.end();
}

void Helpers::run(int node)
{
	stay_off_cpu_0();
	pthread_setname_np(pthread_self(), node == kFast ? "promote" : "demote");
	MutexLock lock(mutex_);

	while (!stop_) {
		auto order = next(node);
		if (order == orders_.end()) {
			changed_.wait(mutex_);
			continue;
		}
		order->running = true;
		carry_out(*order);
		order->running = false;
		if (order->cancelled)
			call_off(order);
		else if (order->done == order->size)
			orders_.erase(order);
		changed_.notify_all();
	}
}

void Helpers::add(const Moved &moved, int node)
{
	(node == kFast ? statistics_.promoted : statistics_.demoted) += moved.moved;
	statistics_.absent += moved.absent;
	statistics_.failed += moved.failed;
}

Moved Helpers::move_unlocked(char *start, size_t size, int node)
{
	mutex_.unlock();
	Moved moved = move_(start, size, node);
	mutex_.lock();
	return moved;
}

/* Piece by piece, until it is done, is called off, or has to wait for room. */
void Helpers::carry_out(Order &order)
{
	while (order.done < order.size && !order.cancelled) {
		char *start = order.start + order.done;
		size_t size = std::min(kPiece, order.size - order.done);

		bool second_try = order.waits_for_room;
		Moved moved = move_unlocked(start, size, order.node);
		if (moved.failed && !second_try && !order.cancelled) {
			statistics_.retried++;
			if (order.node == kFast) {
				/* There may be room once what was ordered to leave has left. */
				order.waits_for_room = true;
				return;
			}
			moved = move_unlocked(start, size, order.node);
		}
		order.waits_for_room = false;
		add(moved, order.node);
		order.done += size;
	}
}

bool Helpers::pending(int position) const
{
	return std::any_of(orders_.begin(), orders_.end(), [position](const Order &order) {
		return order.node == kFast && order.before <= position && !order.cancelled;
	});
}

size_t Helpers::late(int position)
{
	MutexLock lock(mutex_);
	size_t size = 0;

	for (const Order &order : orders_)
		if (order.node == kFast && order.before <= position && !order.cancelled)
			size += order.size;
	return size;
}

void Helpers::wait(int position)
{
	MutexLock lock(mutex_);

	while (pending(position))
		changed_.wait(mutex_);
}

void Helpers::leave(int position)
{
	MutexLock lock(mutex_);

	for (auto order = orders_.begin(); order != orders_.end();) {
		if (order->node == kFast && order->before <= position)
			order = call_off(order);
		else
			++order;
	}
	changed_.notify_all();
}

void Helpers::drain()
{
	MutexLock lock(mutex_);

	while (!orders_.empty())
		changed_.wait(mutex_);
}

MoveStatistics Helpers::take_statistics()
{
	MutexLock lock(mutex_);
	MoveStatistics taken = statistics_;

	statistics_ = MoveStatistics();
	return taken;
}

} // namespace sentinel
