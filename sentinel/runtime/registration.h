/* SPDX-License-Identifier: Apache-2.0 */
/* How TensorFlow comes to use the runtime: an allocator, a device and an operation, registered
 * once. */
#ifndef SENTINEL_RUNTIME_REGISTRATION_H
#define SENTINEL_RUNTIME_REGISTRATION_H

namespace sentinel
{

/* Whether the allocator and the device could be registered: in time, that is. */
bool registered();

/* Devices made so far. */
int devices();

} // namespace sentinel

#endif
