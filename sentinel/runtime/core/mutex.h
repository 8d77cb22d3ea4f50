/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mutexes with annotations for clang's -Wthread-safety, which tests/lint-c runs.
 *
 * Lock order, outermost first: ActivePlan::mutex_, Runtime::mutex_, then FastBudget::mutex_ or
 * MigrationThreads::mutex_. Migration threads move pages without a lock and never take
 * Runtime::mutex_, so it may be held while they are joined.
 */
#ifndef SENTINEL_RUNTIME_MUTEX_H
#define SENTINEL_RUNTIME_MUTEX_H

#include <condition_variable>
#include <mutex>

#ifdef __clang__
#define SENTINEL_ANNOTATION(x) __attribute__((x))
#else
#define SENTINEL_ANNOTATION(x)
#endif
#define SENTINEL_GUARDED_BY(mutex) SENTINEL_ANNOTATION(guarded_by(mutex))
#define SENTINEL_REQUIRES(...)	   SENTINEL_ANNOTATION(requires_capability(__VA_ARGS__))
#define SENTINEL_UNCHECKED	   SENTINEL_ANNOTATION(no_thread_safety_analysis)
#define SENTINEL_EXCLUDES(...)	   SENTINEL_ANNOTATION(locks_excluded(__VA_ARGS__))

namespace sentinel
{

class SENTINEL_ANNOTATION(capability("mutex")) Mutex
{
public:
	void lock() SENTINEL_ANNOTATION(acquire_capability())
	{
		mutex_.lock();
	}
	void unlock() SENTINEL_ANNOTATION(release_capability())
	{
		mutex_.unlock();
	}

private:
	std::mutex mutex_;
};

/* Holds a Mutex for its lifetime. */
class SENTINEL_ANNOTATION(scoped_lockable) MutexLock
{
public:
	explicit MutexLock(Mutex &mutex) SENTINEL_ANNOTATION(acquire_capability(mutex))
	    : mutex_(mutex)
	{
		mutex_.lock();
	}
	~MutexLock() SENTINEL_ANNOTATION(release_capability())
	{
		mutex_.unlock();
	}
	MutexLock(const MutexLock &) = delete;
	MutexLock &operator=(const MutexLock &) = delete;

private:
	Mutex &mutex_;
};

/* A condition variable for Mutex. */
class Condition
{
public:
	/* Wait with `mutex` held; it is released meanwhile. */
	void wait(Mutex &mutex) SENTINEL_REQUIRES(mutex)
	{
		condition_.wait(mutex);
	}
	void notify_all()
	{
		condition_.notify_all();
	}

private:
	std::condition_variable_any condition_;
};

} // namespace sentinel

#endif
