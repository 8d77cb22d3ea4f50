/* SPDX-License-Identifier: Apache-2.0 */
#include "frame_system.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memory.h"

namespace sentinel
{
namespace
{

bool two_nodes()
{
	return node_exists(kFast) && node_exists(kSlow);
}

int create_file(const char *name)
{
	return int(syscall(SYS_memfd_create, name, MFD_CLOEXEC));
}

bool allocate(int file, size_t offset, size_t size)
{
	return fallocate(file, 0, off_t(offset), off_t(size)) == 0;
}

bool remap(char *from, size_t size, char *to)
{
	return mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED;
}

} // namespace

FrameSystem &frame_system()
{
	static FrameSystem system{two_nodes, create_file, allocate, prefer_node, remap};
	return system;
}

} // namespace sentinel
