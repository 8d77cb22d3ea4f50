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

/* TensorFlow's own have 100 and 60 (in 1.13). */
constexpr int kAllocatorPriority = 1000;
constexpr int kDevicePriority = 100;

/*
 * Whether TensorFlow has asked for an allocator; from then on registering another aborts the
 * process. It keeps that to itself. Explicit instantiation may name private members
 * ([temp.explicit]).
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
	/* TensorFlow's protobuf will find itself there twice, and abort without a word of why. */
	const char *preloaded = getenv("LD_PRELOAD");
	if (preloaded && strstr(preloaded, "libsentinel"))
		fprintf(stderr,
			"sentinel: loaded by LD_PRELOAD, which is too early: TensorFlow has to be "
			"loaded first (guest.bindings.runtime.load(), or python2.7 -m guest.wrap)\n");

	auto *allocators = tf::AllocatorFactoryRegistry::singleton();

	if (allocators->*first_alloc_made())
		return false;
	allocators->Register(__FILE__, __LINE__, "Sentinel", kAllocatorPriority,
			     new TfAllocatorFactory);
	tf::DeviceFactory::Register("CPU", new TfDeviceFactory, kDevicePriority);
	return true;
}

const bool done = register_all();

} // namespace

bool registered()
{
	return done;
}

} // namespace sentinel
