/* SPDX-License-Identifier: Apache-2.0 */
/* How far a step has come for certain: all uses before the watermark have ended. */
#ifndef SENTINEL_RUNTIME_WATERMARK_H
#define SENTINEL_RUNTIME_WATERMARK_H

#include <vector>

#include "plan.h"

namespace sentinel
{

class Watermark
{
public:
	/* `plan` outlives it. Uses without a position do not count. */
	explicit Watermark(const Plan &plan) : plan_(plan)
	{
		step_begin();
	}

	void step_begin()
	{
		ended_.assign(plan_.uses.size(), false);
		next_ = 0;
		skip_ended();
	}

	/* The use, an index, has ended. True if the watermark has risen. */
	bool end(int use)
	{
		size_t before = next_;

		ended_[size_t(use)] = true;
		skip_ended();
		return next_ != before;
	}

	/* All uses with a smaller position have ended. */
	int position() const
	{
		return next_ < plan_.uses.size() ? plan_.uses[next_].position : plan_.ops;
	}

private:
	void skip_ended()
	{
		while (next_ < ended_.size() && (ended_[next_] || plan_.uses[next_].position < 0))
			next_++;
	}

	const Plan &plan_;
	std::vector<bool> ended_; /* by use */
	size_t next_ = 0;	  /* the first use that has not ended */
};

} // namespace sentinel

#endif
