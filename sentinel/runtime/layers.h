/* SPDX-License-Identifier: Apache-2.0 */
/* Which layer each operation of a step is in. */
#ifndef SENTINEL_RUNTIME_LAYERS_H
#define SENTINEL_RUNTIME_LAYERS_H

#include <vector>

#include "profile.h"

namespace sentinel
{

/*
 * Sets the layers of operations in the order in which they ran; from 0, never decreasing.
 *
 * With SentinelLayer operations among them, each begins a layer with the operation after it, in the
 * backward pass too, where it runs as its own gradient.
 *
 * Without, the names' scopes tell: "conv2d/Conv2D" is in scope "conv2d", and
 * "gradients/conv2d/Conv2D_grad/..." in "gradients/conv2d", which is a layer of its own. The first
 * operation that computes in a scope not seen before begins a layer. Where there are few scopes
 * they are taken two or three names deep. Within a scope a layer begins when a matrix product or
 * convolution of this layer comes again, under the same name (loops) or with another number
 * (unrolled recurrent networks).
 */
void set_layers(std::vector<ProfiledOp> &ops);

} // namespace sentinel

#endif
