/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU device that reports every operation to the runtime. */
#ifndef SENTINEL_RUNTIME_TENSORFLOW_DEVICE_H
#define SENTINEL_RUNTIME_TENSORFLOW_DEVICE_H

#define EIGEN_USE_THREADS

#include "tensorflow/core/common_runtime/device_factory.h"

namespace sentinel
{

class TfDeviceFactory : public tensorflow::DeviceFactory
{
public:
	tensorflow::Status
	CreateDevices(const tensorflow::SessionOptions &options, const tensorflow::string &prefix,
		      std::vector<std::unique_ptr<tensorflow::Device>> *devices) override;
};

} // namespace sentinel

#endif
