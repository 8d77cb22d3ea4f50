/* SPDX-License-Identifier: Apache-2.0 */
#include "tf_device.h"

#include <atomic>

#include "registration.h"
#include "runtime.h"
#include "tensorflow/core/common_runtime/dma_helper.h"
#include "tensorflow/core/common_runtime/process_state.h"
#include "tensorflow/core/common_runtime/threadpool_device.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/platform/cpu_info.h"
#include "tensorflow/core/public/session_options.h"

namespace tf = tensorflow;

namespace sentinel
{
namespace
{

std::atomic<int> device_count{0};

/* What an operation takes and makes, told to the runtime. */
class Tensors
{
      public:
	Tensors(Runtime &runtime, const Op &op, int position)
	    : runtime_(runtime), op_(op), position_(position), recording_(runtime.recording())
	{
	}

	void inputs(tf::OpKernelContext *c) const
	{
		for (int i = 0; i < c->num_inputs(); i++) {
			if (!c->has_input(i))
				continue;
			if (c->input_is_ref(i))
				variable(c->mutable_input(i, false));
			else if (c->input_dtype(i) == tf::DT_RESOURCE)
				resource(c, i);
			else if (recording_)
				use(c->input(i), true, false);
		}
	}

	void outputs(tf::OpKernelContext *c) const
	{
		if (!c->status().ok())
			return;
		for (int i = 0; i < c->num_outputs(); i++) {
			tf::Tensor *t = c->mutable_output(i);
			/* A handle of a variable is a tensor too, but not the variable's. */
			if (!t || t->dtype() == tf::DT_RESOURCE)
				continue;
			/* A reference to a variable is no writing of it; what writes has it as an
			 * input. */
			bool reference = tf::IsRefType(c->expected_output_dtype(i));
			if (recording_)
				use(*t, false, !reference);
			if (op_.effect.source && t->IsInitialized())
				runtime_.named(tf::DMAHelper::base(t), op_.name);
		}
	}

      private:
	void use(const tf::Tensor &t, bool reads, bool writes) const
	{
		if (!t.IsInitialized() || !t.NumElements())
			return;
		bool computes = op_.effect.computes;
		runtime_.used(tf::DMAHelper::base(&t), t.TotalBytes(), position_, reads && computes,
			      writes && computes);
	}

	void variable(const tf::Tensor &t) const
	{
		if (recording_)
			use(t, op_.effect.reads_variables, op_.effect.writes_variables);
	}

	void resource(tf::OpKernelContext *c, int i) const
	{
		const tf::ResourceHandle &handle = tf::HandleFromInput(c, i);
		tf::Var *v = nullptr;

		if (handle.hash_code() != tf::MakeTypeIndex<tf::Var>().hash_code() ||
		    !tf::LookupResource(c, handle, &v).ok())
			return;
		{
			tf::mutex_lock lock(*v->mu());
			tf::Tensor *t = v->tensor();
			if (t->IsInitialized() && t->NumElements()) {
				variable(*t);
				runtime_.named(tf::DMAHelper::base(t), handle.name());
			}
		}
		v->Unref();
	}

	Runtime &runtime_;
	const Op &op_;
	int position_;
	bool recording_;
};

class TfDevice : public tf::ThreadPoolDevice
{
      public:
	using tf::ThreadPoolDevice::ThreadPoolDevice;

	void Compute(tf::OpKernel *kernel, tf::OpKernelContext *c) override
	{
		Runtime &runtime = Runtime::instance();
		OpContext before;
		Op *op = begin(runtime, kernel, c, before);

		if (!op) {
			kernel->Compute(c);
			return;
		}
		int position = Runtime::position();
		Tensors tensors(runtime, *op, position);
		tensors.inputs(c);
		kernel->Compute(c);
		if (runtime.recording() || op->effect.source)
			tensors.outputs(c);
		runtime.op_leave(before);
		runtime.op_end(position);
	}

	void ComputeAsync(tf::AsyncOpKernel *kernel, tf::OpKernelContext *c,
			  tf::AsyncOpKernel::DoneCallback done) override
	{
		Runtime &runtime = Runtime::instance();
		OpContext before;
		Op *op = begin(runtime, kernel, c, before);

		if (!op) {
			kernel->ComputeAsync(c, std::move(done));
			return;
		}
		int position = Runtime::position();
		Tensors tensors(runtime, *op, position);
		tensors.inputs(c);
		kernel->ComputeAsync(c, [&runtime, tensors, position, c, done] {
			tensors.outputs(c);
			runtime.op_end(position);
			done();
		});
		/* Not touching `c`: it may be gone. */
		runtime.op_leave(before);
	}

      private:
	static Op *begin(Runtime &runtime, tf::OpKernel *kernel, tf::OpKernelContext *c,
			 OpContext &before)
	{
		if (!runtime.watching())
			return nullptr;
		return runtime.op_begin(kernel, kernel->name(), kernel->type_string(), c->step_id(),
					before);
	}
};

} // namespace

tf::Status TfDeviceFactory::CreateDevices(const tf::SessionOptions &options,
					  const tf::string &prefix,
					  std::vector<std::unique_ptr<tf::Device>> *devices)
{
	const auto &counts = options.config.device_count();
	auto cpus = counts.find("CPU");
	int count = cpus == counts.end() ? 1 : cpus->second;
	tf::SessionOptions own = options;
	tf::DeviceLocality locality;

	/* Brings Eigen's temporaries under the allocator as well (ThreadPoolDevice's constructor).
	 */
	own.config.mutable_experimental()->set_use_numa_affinity(true);
	locality.set_numa_node(0);
	/* 0 is "as many as there are CPUs" to TensorFlow. */
	auto threads = [](int asked) { return asked > 0 ? asked : tf::port::NumSchedulableCPUs(); };
	Runtime::instance().threads(threads(options.config.inter_op_parallelism_threads()),
				    threads(options.config.intra_op_parallelism_threads()));
	for (int i = 0; i < count; i++) {
		tf::string name = tf::strings::StrCat(prefix, "/device:CPU:", i);
		tf::Allocator *allocator = tf::ProcessState::singleton()->GetCPUAllocator(0);
		devices->emplace_back(
			new TfDevice(own, name, tf::Bytes(256 << 20), locality, allocator));
		device_count++;
	}
	return tf::Status::OK();
}

int devices()
{
	return device_count;
}

} // namespace sentinel
