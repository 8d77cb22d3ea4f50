/* SPDX-License-Identifier: Apache-2.0 */
#include "helpers.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

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
	for (int node : {kFast, kSlow})
		threads_[node] = std::thread([this, node] { run(node); });
}

Helpers::~Helpers()
{
	{
		std::lock_guard<std::mutex> lock(mutex_);
		stop_ = true;
		for (Order &order : orders_)
			order.cancelled = true;
	}
	changed_.notify_all();
	for (std::thread &thread : threads_)
		thread.join();
}

void Helpers::order(char *start, size_t size, int node, int before)
{
	std::lock_guard<std::mutex> lock(mutex_);

	for (auto other = orders_.begin(); other != orders_.end();) {
		bool opposite = other->node != node && other->start == start && other->size == size;
		if (opposite && !other->running) {
			statistics_.cancelled += other->size;
			other = orders_.erase(other);
		} else {
			++other;
		}
	}
	orders_.push_back({start, size, node, before});
	changed_.notify_all();
}

/* The first order of this thread that does not wait for an older one at the same pages. */
Helpers::Orders::iterator Helpers::next(int node)
{
	for (auto order = orders_.begin(); order != orders_.end(); ++order) {
		if (order->node != node || order->running)
			continue;
		bool free = std::none_of(orders_.begin(), order, [&](const Order &older) {
			return overlap(older.start, older.size, order->start, order->size);
		});
		if (free)
			return order;
	}
	return orders_.end();
}

void Helpers::run(int node)
{
	stay_off_cpu_0();
	pthread_setname_np(pthread_self(), node == kFast ? "promote" : "demote");
	std::unique_lock<std::mutex> lock(mutex_);

	for (;;) {
		auto order = orders_.end();
		changed_.wait(lock, [&] {
			order = next(node);
			return stop_ || order != orders_.end();
		});
		if (stop_)
			return;
		order->running = true;
		carry_out(order, lock);
		orders_.erase(order);
		changed_.notify_all();
	}
}

bool Helpers::demoting(const Order *before) const
{
	for (const Order &order : orders_) {
		if (&order == before)
			break;
		if (order.node == kSlow)
			return true;
	}
	return false;
}

void Helpers::add(const Moved &moved, int node)
{
	(node == kFast ? statistics_.promoted : statistics_.demoted) += moved.moved;
	statistics_.absent += moved.absent;
	statistics_.failed += moved.failed;
}

/* Called, and returns, with the lock held. */
void Helpers::carry_out(Orders::iterator order, std::unique_lock<std::mutex> &lock)
{
	for (size_t done = 0; done < order->size; done += kPiece) {
		char *start = order->start + done;
		size_t size = std::min(kPiece, order->size - done);
		int node = order->node;

		if (order->cancelled) {
			statistics_.cancelled += order->size - done;
			return;
		}
		lock.unlock();
		Moved moved = move_(start, size, node);
		lock.lock();
		if (moved.failed && !order->cancelled) {
			/* There may be no room until what was ordered to leave has left. */
			if (node == kFast)
				changed_.wait(lock, [&] {
					return stop_ || order->cancelled || !demoting(&*order);
				});
			statistics_.retried++;
			lock.unlock();
			moved = move_(start, size, node);
			lock.lock();
		}
		add(moved, node);
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
	std::lock_guard<std::mutex> lock(mutex_);
	size_t size = 0;

	for (const Order &order : orders_)
		if (order.node == kFast && order.before <= position && !order.cancelled)
			size += order.size;
	return size;
}

void Helpers::wait(int position)
{
	std::unique_lock<std::mutex> lock(mutex_);

	changed_.wait(lock, [&] { return !pending(position); });
}

void Helpers::leave(int position)
{
	std::lock_guard<std::mutex> lock(mutex_);

	for (auto order = orders_.begin(); order != orders_.end();) {
		bool late = order->node == kFast && order->before <= position;
		if (late && !order->running) {
			statistics_.cancelled += order->size;
			order = orders_.erase(order);
			continue;
		}
		if (late)
			order->cancelled = true;
		++order;
	}
	changed_.notify_all();
}

void Helpers::drain()
{
	std::unique_lock<std::mutex> lock(mutex_);

	changed_.wait(lock, [&] { return orders_.empty(); });
}

MoveStatistics Helpers::take_statistics()
{
	std::lock_guard<std::mutex> lock(mutex_);
	MoveStatistics taken = statistics_;

	statistics_ = MoveStatistics();
	return taken;
}

} // namespace sentinel
