/* SPDX-License-Identifier: Apache-2.0 */
#include "core/framework.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "allocator.h"
#include "device.h"

namespace tf = tensorflow;

namespace sentinel
{
namespace
{

/* TensorFlow 1.13's own allocator and device have 100 and 60. */
constexpr int kAllocatorPriority = 1000;
constexpr int kDevicePriority = 100;

/*
 * A private flag of TensorFlow's: whether it has asked for an allocator. After that, registering
 * another aborts the process. Explicit instantiation may name private members ([temp.explicit]).
 */
using FirstAlloc = bool tf::AllocatorFactoryRegistry::*;
FirstAlloc first_alloc_made();
template <FirstAlloc member> struct Open {
	friend FirstAlloc first_alloc_made()
	{
		return member;
	}
};
template struct Open<&tf::AllocatorFactoryRegistry::first_alloc_made_>;

bool register_all()
{
	/* TensorFlow's protobuf would be there twice, and would abort without saying why. */
	const char *preloaded = getenv("LD_PRELOAD");
	if (preloaded && strstr(preloaded, "libsentinel"))
		fprintf(stderr,
			"sentinel: LD_PRELOAD loads the runtime too early: load it after "
			"TensorFlow (guest.bindings.runtime.load(), or python2.7 -m guest.wrap)\n");

	auto *allocators = tf::AllocatorFactoryRegistry::singleton();

	if (allocators->*first_alloc_made())
		return false;
	allocators->Register(__FILE__, __LINE__, "Sentinel", kAllocatorPriority,
			     new TfAllocatorFactory);
	tf::DeviceFactory::Register("CPU", new TfDeviceFactory, kDevicePriority);
	return true;
}

const bool is_registered = register_all();

} // namespace

bool registered()
{
	return is_registered;
}

} // namespace sentinel
