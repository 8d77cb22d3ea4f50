/* SPDX-License-Identifier: Apache-2.0 */
#include "wait_trial.h"

namespace sentinel
{

void WaitTrial::step(uint64_t step_ns, uint64_t exposed_ns)
{
	switch (state_) {
	case State::settle:
		/* In the first step of a plan tensors are not yet where the plan expects them. */
		state_ = State::try_wait;
		break;
	case State::try_wait:
		/* Cancelling cannot help a step that did not wait. */
		waiting_step_ns_ = step_ns;
		state_ = exposed_ns ? State::try_cancel : State::wait;
		break;
	case State::try_cancel:
		state_ = step_ns < waiting_step_ns_ ? State::cancel : State::wait;
		break;
	case State::wait:
	case State::cancel:
		break;
	}
}

const char *WaitTrial::name() const
{
	static const char *const names[] = {"settle", "waiting", "leaving", "wait", "leave"};
	return names[int(state_)];
}

} // namespace sentinel
