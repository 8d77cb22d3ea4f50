/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mutex that clang's -Wthread-safety knows (tests/lint-c runs it), and the annotations for it.
 *
 * Lock order, outermost first: ActivePlan::advance, Runtime::mutex_, Room::mutex_ or
 * Helpers::mutex_. Migration threads hold no lock while they move pages, and never take
 * Runtime::mutex_, so they may be joined with it held.
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

/* Waits with a Mutex held, which is free while it waits. */
class Condition
{
      public:
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
