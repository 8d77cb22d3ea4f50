/* SPDX-License-Identifier: Apache-2.0 */
#include "memory_file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "frame_system.h"
#include "memory.h"

namespace sentinel
{
namespace
{

[[noreturn]] void fail(const char *call, int error)
{
	throw std::system_error(error, std::generic_category(), call);
}

/* Growing a file beyond this limit would raise SIGXFSZ. */
bool exceeds_limit(size_t size)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	       size > limit.rlim_cur;
}

} // namespace

MemoryFile::MemoryFile(const char *name, int node)
    : file_(frame_system().create_file(name)), node_(node)
{
	if (file_ < 0)
		fail("memfd_create", errno);
}

MemoryFile::~MemoryFile()
{
	unmap();
	if (file_ >= 0)
		close(file_);
}

void MemoryFile::unmap()
{
	if (view_)
		munmap(view_, size_);
	view_ = nullptr;
	size_ = 0;
}

void MemoryFile::abandon()
{
	unmap();
	close(file_);
	file_ = -1;
}

void MemoryFile::resize(size_t size)
{
	if (size == size_)
		return;
	if (size > length_) {
		if (exceeds_limit(size) || ftruncate(file_, off_t(size)) < 0)
			fail("ftruncate", exceeds_limit(size) ? EFBIG : errno);
		length_ = size;
	}
	if (size < size_) {
		if (fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off_t(size),
			      off_t(size_ - size)) < 0)
			fail("fallocate", errno);
		returns_++;
	}
	unmap();
	if (!size)
		return;
	void *view = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
	if (view == MAP_FAILED)
		fail("mmap", errno);
	view_ = static_cast<char *>(view);
	size_ = size;
	/* The policy of a file's pages is the file's, wherever they are mapped. */
	if (!frame_system().prefer(view_, size_, node_)) {
		int error = errno;
		unmap();
		fail("mbind", error);
	}
}

void MemoryFile::populate(size_t offset, size_t size)
{
	if (!size)
		return;
	if (offset + size > size_)
		fail("populate", ENOMEM); /* resize() has failed */
	if (!frame_system().allocate(file_, offset, size))
		fail("fallocate", errno);
	touch_pages(view_ + offset, size);
}

bool MemoryFile::map(char *address, size_t offset, size_t size) const
{
	return mmap(address, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file_,
		    off_t(offset)) != MAP_FAILED;
}

} // namespace sentinel
