/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SentinelLayer: an identity operation that ends a layer. Its gradient, registered in Python, is
 * SentinelLayer again, so that it marks layers of the backward pass too. Stateful, so that
 * optimisers keep it.
 */
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf = tensorflow;

namespace
{

class LayerOp : public tf::OpKernel
{
public:
	using tf::OpKernel::OpKernel;

	void Compute(tf::OpKernelContext *c) override
	{
		c->set_output(0, c->input(0));
	}
	bool IsExpensive() override
	{
		return false;
	}
};

REGISTER_OP("SentinelLayer")
	.Input("x: T")
	.Output("y: T")
	.Attr("T: type")
	.SetIsStateful()
	.SetShapeFn([](tf::shape_inference::InferenceContext *c) {
		c->set_output(0, c->input(0));
		return tf::Status::OK();
	});

REGISTER_KERNEL_BUILDER(Name("SentinelLayer").Device(tf::DEVICE_CPU), LayerOp);

} // namespace
