/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Debug mode of frames, with SENTINEL_CHECK_FRAMES=1 in the environment: a write to a window whose
 * group is being copied ends the process, with one line that names the operation and the tensors.
 */
#ifndef SENTINEL_RUNTIME_WRITE_GUARD_H
#define SENTINEL_RUNTIME_WRITE_GUARD_H

#include <csignal>
#include <cstddef>
#include <string>
#include <vector>

#include "plan.h"

namespace sentinel
{

class WriteGuard
{
public:
	/* Whether the environment asks for it. */
	static bool is_requested();

	/* Explains writes to protected groups in the arena at `base`. */
	WriteGuard(const Plan &plan, const char *base);
	~WriteGuard();
	WriteGuard(const WriteGuard &) = delete;
	WriteGuard &operator=(const WriteGuard &) = delete;

	/* This thread runs the operation, until the next call; nullptr: none. */
	static void set_operation(const char *name);

private:
	struct Range {
		const char *begin, *end;
		std::string tensors;
	};

	static void handle(int signal, siginfo_t *info, void *context);

	std::vector<Range> ranges_;
};

} // namespace sentinel

#endif
