/* SPDX-License-Identifier: Apache-2.0 */
/* TensorFlow's allocator over the runtime's memory. */
#ifndef SENTINEL_RUNTIME_TENSORFLOW_ALLOCATOR_H
#define SENTINEL_RUNTIME_TENSORFLOW_ALLOCATOR_H

#include "tensorflow/core/framework/allocator_registry.h"

namespace sentinel
{

class TfAllocatorFactory : public tensorflow::AllocatorFactory
{
public:
	tensorflow::Allocator *CreateAllocator() override;
	tensorflow::SubAllocator *CreateSubAllocator(int numa_node) override;
};

} // namespace sentinel

#endif
