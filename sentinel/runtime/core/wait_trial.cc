/* SPDX-License-Identifier: Apache-2.0 */
#include "wait_trial.h"

namespace sentinel
{

void Trial::step(uint64_t ns, uint64_t exposed_ns)
{
	switch (state_) {
	case State::settle:
		/* The first step of a plan finds its tensors wherever they were, and says nothing.
		 */
		state_ = State::waiting;
		break;
	case State::waiting:
		/* A step that waited for nothing has nothing to gain. */
		waited_ns_ = ns;
		state_ = exposed_ns ? State::leaving : State::keep_waiting;
		break;
	case State::leaving:
		state_ = ns < waited_ns_ ? State::keep_leaving : State::keep_waiting;
		break;
	case State::keep_waiting:
	case State::keep_leaving:
		break;
	}
}

const char *Trial::name() const
{
	static const char *const names[] = {"settle", "waiting", "leaving", "wait", "leave"};
	return names[int(state_)];
}

} // namespace sentinel
