/* SPDX-License-Identifier: Apache-2.0 */
#include "allocator.h"

#include "core/runtime.h"

/* TensorFlow's wheel was built by gcc 4.8, whose hash tables are laid out differently: build.py. */
static_assert(sizeof(std::unordered_map<int, int>) == 48, "gcc 4.8's layout is needed");

namespace tf = tensorflow;

namespace sentinel
{
namespace
{

class TfAllocator : public tf::Allocator
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
		Runtime &runtime = Runtime::instance();

		stats->Clear();
		stats->num_allocs = tf::int64(runtime.allocations());
		stats->bytes_in_use = tf::int64(runtime.live());
		stats->max_bytes_in_use = tf::int64(runtime.peak());
	}
};

/* For what TensorFlow would put an arena of its own on top of, which it does by request only. */
class TfSubAllocator : public tf::SubAllocator
{
      public:
	TfSubAllocator() : tf::SubAllocator({}, {})
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
	return new TfAllocator;
}

tf::SubAllocator *TfAllocatorFactory::CreateSubAllocator(int)
{
	return new TfSubAllocator;
}

} // namespace sentinel
