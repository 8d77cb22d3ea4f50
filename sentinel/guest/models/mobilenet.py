# SPDX-License-Identifier: Apache-2.0
"""MobileNet. python2.7 with TensorFlow 1.13.1."""

from __future__ import absolute_import, division, print_function

DESCRIPTION = "MobileNet with depthwise separable convolutions"
SOURCE = "Howard et al. 2017, arXiv 1704.04861, table 1"
PARAMETERS = {
    "batch": {"default": 16, "minimum": 1, "maximum": 1024, "description": "images per step"},
    "resolution": {
        "default": 96,
        "choices": [32, 64, 96, 128, 160, 192, 224],
        "description": "side of an image in pixels",
    },
    "width": {"default": 25, "minimum": 5, "maximum": 200, "description": "width multiplier in percent"},
    "classes": {"default": 62, "minimum": 2, "maximum": 100000, "description": "classes of images"},
    "optimizer": {
        "default": "rmsprop",
        "choices": ["rmsprop", "momentum"],
        "description": "RMSProp as published, or SGD with momentum",
    },
}
CONFIGURATIONS = {
    "paper": {"batch": 128, "resolution": 224, "width": 100, "classes": 1000},
    "emulated": {},
}
PUBLISHED = [
    {
        "configuration": "paper",
        "trainable": "4231976",
        "source": "Keras applications: mobilenet_1_0_224_tf.h5",
    },
]
# Filters and stride of each separable convolution
_LAYERS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
_LAYERS += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
_BATCH_NORM = {"momentum": 0.9997, "epsilon": 0.001}


def _depthwise(h, stride, name):
    """Add a depthwise convolution with batch normalisation."""
    import tensorflow as tf

    with tf.variable_scope(name):
        initializer = tf.truncated_normal_initializer(stddev=0.09)
        kernel = tf.get_variable("depthwise_kernel", [3, 3, h.shape[-1].value, 1], initializer=initializer)
        h = tf.nn.depthwise_conv2d(h, kernel, [1, stride, stride, 1], "SAME")
        return tf.nn.relu6(tf.layers.batch_normalization(h, training=True, fused=True, **_BATCH_NORM))


def build(batch, resolution, width, classes, optimizer):
    """Build one full convolution, 13 depthwise separable ones and the classifier."""
    import tensorflow as tf

    from guest.models import _layers

    def filters(count):
        return max(count * width // 100, 8)

    def convolution(h, count, size, stride, name):
        return _layers.convolution(h, filters(count), size, stride, name, _BATCH_NORM, tf.nn.relu6)

    x, y, inputs = _layers.labelled_images(batch, resolution, 3, classes)
    h = convolution(x, 32, 3, 2, "first")
    for i, (count, stride) in enumerate(_LAYERS):
        h = _depthwise(h, stride, "layer%d_depthwise" % (i + 1))
        h = convolution(h, count, 1, 1, "layer%d_pointwise" % (i + 1))
    with tf.variable_scope("classifier"):
        h = tf.nn.dropout(tf.reduce_mean(h, [1, 2]), 0.999)
        logits = tf.layers.dense(h, classes)
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    kernels = [v for v in tf.trainable_variables() if "/kernel" in v.name]  # but not of depthwise filters
    loss += _layers.weight_decay(4e-5, kernels)
    if optimizer == "rmsprop":
        method = tf.train.RMSPropOptimizer(0.045, decay=0.9, momentum=0.9, epsilon=1.0)
    else:
        method = tf.train.MomentumOptimizer(0.045, 0.9)
    return inputs, [_layers.minimize(method, loss)], loss
