/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime's clock: the model clock if the machine has one, else the guest clock. With
 * SENTINEL_CLOCK=cpu in the environment, the processor time of the process: other load on the host
 * does not count.
 */
#ifndef SENTINEL_RUNTIME_CLOCK_H
#define SENTINEL_RUNTIME_CLOCK_H

#include <cstddef>
#include <cstdint>

namespace sentinel
{

/* Nanoseconds since an arbitrary start. */
uint64_t now_ns();

/* What now_ns() reads: "model", "guest" or "cpu". */
const char *clock_name();

/*
 * Mark an event in the timing model's trace, if it makes one. Returns the number of the event in
 * this process, from 1. Not thread-safe.
 */
uint64_t mark_event();

/* Tell the timing model that this thread has remapped a window of so many pages. */
void mark_remapped(size_t pages);

/*
 * Leaves the recorder's own work out of the trace, from begin() or the constructor to end() or the
 * destructor. Events are traced nevertheless. Not nested.
 */
class Untraced
{
public:
	explicit Untraced(bool active = true) : active_(active)
	{
		begin();
	}
	~Untraced()
	{
		end();
	}
	Untraced(const Untraced &) = delete;
	Untraced &operator=(const Untraced &) = delete;

	void begin();
	void end();

private:
	const bool active_;
};

} // namespace sentinel

#endif
