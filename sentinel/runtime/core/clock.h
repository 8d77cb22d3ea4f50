/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime's clock: the model clock if the machine has one, else the guest clock. */
#ifndef SENTINEL_RUNTIME_CLOCK_H
#define SENTINEL_RUNTIME_CLOCK_H

#include <cstdint>

namespace sentinel
{

/* Nanoseconds since an arbitrary start. */
uint64_t now_ns();

/* Whether now_ns() reads the model clock. */
bool has_model_clock();

} // namespace sentinel

#endif
