/* SPDX-License-Identifier: Apache-2.0 */
/* The clock that decisions are made by: the timing model's where there is one, else the guest's. */
#ifndef SENTINEL_RUNTIME_CLOCK_H
#define SENTINEL_RUNTIME_CLOCK_H

#include <cstdint>

namespace sentinel
{

uint64_t now_ns();

/* Whether that is the model's. */
bool modelled();

} // namespace sentinel

#endif
