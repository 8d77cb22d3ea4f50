/* SPDX-License-Identifier: Apache-2.0 */
/* Memory on one node that may be mapped at several addresses. Not thread-safe. */
#ifndef SENTINEL_RUNTIME_MEMORY_FILE_H
#define SENTINEL_RUNTIME_MEMORY_FILE_H

#include <cstddef>
#include <cstdint>

namespace sentinel
{

class MemoryFile
{
public:
	/* Of size 0. Throws std::system_error. */
	MemoryFile(const char *name, int node);
	~MemoryFile();
	MemoryFile(const MemoryFile &) = delete;
	MemoryFile &operator=(const MemoryFile &) = delete;

	/*
	 * Set the size. Memory beyond it is returned to the system, and the view moves. Throws
	 * std::system_error, and then the size is 0 or has not changed.
	 */
	void resize(size_t size);
	size_t size() const
	{
		return size_;
	}

	/* Give [offset, offset + size) memory, in the view too. Throws std::system_error. */
	void populate(size_t offset, size_t size);

	/* The whole file. */
	char *view() const
	{
		return view_;
	}

	/* Map [offset, offset + size) at `address`, which may replace what is there. */
	bool map(char *address, size_t offset, size_t size) const;

	/* How often memory was returned: mappings have lost those pages. */
	uint64_t returns() const
	{
		return returns_;
	}

	/* In a forked child: forget the memory, which is the parent's. */
	void abandon();

private:
	void unmap();

	int file_;
	const int node_;
	size_t size_ = 0;
	size_t length_ = 0; /* of the file: the largest size so far */
	char *view_ = nullptr;
	uint64_t returns_ = 0;
};

} // namespace sentinel

#endif
