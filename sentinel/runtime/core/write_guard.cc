/* SPDX-License-Identifier: Apache-2.0 */
#include "write_guard.h"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <set>

namespace sentinel
{
namespace
{

struct sigaction previous;
thread_local const char *operation;

/* The handler takes no lock: a guard that it may read is not changed. */
std::mutex guards_mutex;
std::set<const WriteGuard *> guards;

void write_text(const char *text)
{
	(void)!write(STDERR_FILENO, text, strlen(text));
}

} // namespace

bool WriteGuard::is_requested()
{
	const char *value = getenv("SENTINEL_CHECK_FRAMES");

	return value && *value && strcmp(value, "0") != 0;
}

void WriteGuard::set_operation(const char *name)
{
	operation = name;
}

/* The process ends here, or in the handler that was there before. */
void WriteGuard::handle(int signal, siginfo_t *info, void *context)
{
	const char *address = static_cast<const char *>(info->si_addr);

	(void)context;
	for (const WriteGuard *guard : guards)
		for (const Range &range : guard->ranges_) {
			if (address < range.begin || address >= range.end)
				continue;
			write_text("sentinel: operation ");
			write_text(operation ? operation : "(unknown)");
			write_text(" writes to a group that is being copied, with tensors of ");
			write_text(range.tensors.c_str());
			write_text("\n");
			_exit(70);
		}
	sigaction(signal, &previous, nullptr); /* the access is repeated, and handled there */
}

WriteGuard::WriteGuard(const Plan &plan, const char *base)
{
	for (const Group &g : plan.groups) {
		if (g.keep)
			continue;
		std::string names;
		for (const PlannedTensor &t : plan.tensors)
			if (!t.variable && !t.short_lived && t.offset < g.offset + g.size &&
			    g.offset < t.offset + t.size)
				names += (names.empty() ? "" : ", ") + t.op;
		ranges_.push_back({base + g.offset, base + g.offset + g.size, names});
	}
	std::lock_guard<std::mutex> lock(guards_mutex);
	if (guards.empty()) {
		struct sigaction action{};
		action.sa_sigaction = handle;
		action.sa_flags = SA_SIGINFO;
		sigaction(SIGSEGV, &action, &previous);
	}
	guards.insert(this);
}

WriteGuard::~WriteGuard()
{
	std::lock_guard<std::mutex> lock(guards_mutex);
	guards.erase(this);
	if (guards.empty())
		sigaction(SIGSEGV, &previous, nullptr);
}

} // namespace sentinel
