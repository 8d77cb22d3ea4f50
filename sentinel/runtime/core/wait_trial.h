/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test and trial (section 4.4 of the paper): at the end of an interval, wait for late promotions,
 * or cancel them and leave their tensors in slow memory. One step tries each; the faster is kept.
 */
#ifndef SENTINEL_RUNTIME_WAIT_TRIAL_H
#define SENTINEL_RUNTIME_WAIT_TRIAL_H

#include <cstdint>

namespace sentinel
{

class WaitTrial
{
public:
	/* Whether the next step waits. */
	bool waits() const
	{
		return state_ == State::settle || state_ == State::try_wait ||
		       state_ == State::wait;
	}

	/* Report a step: its time, and how much of that it waited for promotions. */
	void step(uint64_t step_ns, uint64_t exposed_ns);

	/* "settle", "waiting", "leaving", "wait" or "leave", as in the statistics. */
	const char *name() const;

private:
	enum class State { settle, try_wait, try_cancel, wait, cancel };

	State state_ = State::settle;
	uint64_t waiting_step_ns_ = 0;
};

} // namespace sentinel

#endif
