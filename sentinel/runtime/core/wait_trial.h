/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test and trial (section 4.4 of the paper): whether to wait at the end of an interval for
 * promotions that are not done, or to leave those tensors in slow memory. One step tries each.
 */
#ifndef SENTINEL_RUNTIME_WAIT_TRIAL_H
#define SENTINEL_RUNTIME_WAIT_TRIAL_H

#include <cstdint>

namespace sentinel
{

class Trial
{
      public:
	/* Whether the step that is about to begin waits. */
	bool wait() const
	{
		return state_ == State::settle || state_ == State::waiting ||
		       state_ == State::keep_waiting;
	}

	/* The step took `ns`, of which it waited `exposed_ns`. */
	void step(uint64_t ns, uint64_t exposed_ns);

	/* "settle", "waiting", "leaving", "wait" or "leave". */
	const char *name() const;

      private:
	enum class State { settle, waiting, leaving, keep_waiting, keep_leaving };

	State state_ = State::settle;
	uint64_t waited_ns_ = 0;
};

} // namespace sentinel

#endif
