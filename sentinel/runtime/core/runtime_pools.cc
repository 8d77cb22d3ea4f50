/* SPDX-License-Identifier: Apache-2.0 */
/* Pools that all plans share, and the budget after a fork. */
#include <algorithm>
#include <string>
#include <system_error>

#include "runtime.h"

namespace sentinel
{

/* The pool of at least `size` bytes that all plans share. Throws std::bad_alloc. */
std::shared_ptr<Arena> Runtime::reserved_pool(size_t size)
{
	if (!reserved_)
		reserved_ = std::make_shared<Arena>(memory_.mapping(Pool::unplanned)->size(), false,
						    true);
	reserved_->open(size);
	return reserved_;
}

/* The fast frame pool that all plans share. Throws std::system_error. */
std::shared_ptr<MemoryFile> Runtime::frame_pool()
{
	MutexLock lock(mutex_);

	if (!frame_pool_)
		frame_pool_ = std::make_shared<MemoryFile>("sentinel-frames", kFast);
	return frame_pool_;
}

/* Between steps, with no plan that uses it. */
void Runtime::resize_frame_pool(size_t size)
{
	try {
		if (frame_pool_)
			frame_pool_->resize(size);
	} catch (const std::system_error &e) {
		log("cannot resize the fast frame pool: " + std::string(e.what()));
	}
}

/* Between steps: return the reserved pool's pages from `size` on. Plans share those below. */
void Runtime::shrink_reserved_pool(size_t size)
{
	if (!reserved_)
		return;
	reserved_->discard_unused(size, reserved_->extent());
	if (reserved_->used() && node_exists(kSlow)) /* tensors that outlived their step */
		move_pages(reserved_->mapping().base(), round_up(reserved_->extent()), kSlow);
}

/* Bytes of fast memory in all pools. */
size_t Runtime::fast_bytes()
{
	size_t bytes = 0;

	for (int i = 0; i < kPools; i++)
		bytes += resident(Pool(i))[kFast];
	return bytes;
}

/* Bytes of the pool's resident pages on each node. */
std::vector<size_t> Runtime::resident(Pool pool)
{
	Mapping *mapping = memory_.mapping(pool);

	if (pool == Pool::arena && installed_)
		return installed_->residency();
	return mapping ? residency(mapping->base(), memory_.extent(pool)) : std::vector<size_t>(2);
}

/* After a fork: move pages that copy-on-write placed on node 0 beyond the budget. */
void Runtime::enforce_budget()
{
	size_t budget = installed_->plan.budget, fast = fast_bytes();

	if (fast <= budget || !node_exists(kSlow))
		return;
	if (!over_budget_)
		log("a fork made tensors exceed the plan's budget: moving them to node 1");
	over_budget_ = std::max<uint64_t>(over_budget_, fast - budget);
	memory_.move_to_slow();
	set_variable_nodes();
}

} // namespace sentinel
