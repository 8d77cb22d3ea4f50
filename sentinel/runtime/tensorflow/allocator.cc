/* SPDX-License-Identifier: Apache-2.0 */
#include "allocator.h"

#include <unordered_map>

#include "core/runtime.h"

/* TensorFlow's wheel was built by gcc 4.8, whose hash tables have another layout: see build.py. */
static_assert(sizeof(std::unordered_map<int, int>) == 48, "needs gcc 4.8's layout");

namespace tf = tensorflow;

namespace sentinel
{
namespace
{

class Allocator : public tf::Allocator
{
public:
	tf::string Name() override
	{
		return "sentinel";
	}
	void *AllocateRaw(size_t alignment, size_t bytes) override
	{
		return Runtime::instance().allocate(alignment, bytes);
	}
	void DeallocateRaw(void *p) override
	{
		if (p)
			Runtime::instance().release(p);
	}
	void GetStats(tf::AllocatorStats *stats) override
	{
		PoolStatistics usage = Runtime::instance().memory_usage();

		stats->Clear();
		stats->num_allocs = tf::int64(usage.allocations);
		stats->bytes_in_use = tf::int64(usage.live);
		stats->max_bytes_in_use = tf::int64(usage.peak);
	}
};

/* Below TensorFlow's own arena, which it uses only on request. */
class SubAllocator : public tf::SubAllocator
{
public:
	SubAllocator() : tf::SubAllocator({}, {})
	{
	}
	void *Alloc(size_t alignment, size_t bytes) override
	{
		return Runtime::instance().allocate(alignment, bytes);
	}
	void Free(void *p, size_t) override
	{
		Runtime::instance().release(p);
	}
};

} // namespace

tf::Allocator *TfAllocatorFactory::CreateAllocator()
{
	return new Allocator;
}

tf::SubAllocator *TfAllocatorFactory::CreateSubAllocator(int)
{
	return new SubAllocator;
}

} // namespace sentinel
