# SPDX-License-Identifier: Apache-2.0
"""ResNet for CIFAR-10. python2.7 with TensorFlow 1.13.1."""

from __future__ import absolute_import, division, print_function

DESCRIPTION = "ResNet on 32x32 images"
SOURCE = "He et al. 2015, arXiv 1512.03385, section 4.2"
DATA = "CIFAR-10, binary version"
PARAMETERS = {
    "batch": {"default": 8, "minimum": 1, "maximum": 1024, "description": "images per step"},
    "depth": {"default": 32, "choices": [20, 32, 44, 56, 110], "description": "layers with weights"},
    "width": {"default": 8, "minimum": 1, "maximum": 64, "description": "filters of the first stage"},
}
CONFIGURATIONS = {
    "paper": {"batch": 128, "depth": 32, "width": 16},
    "emulated": {},
}
PUBLISHED = [
    {"configuration": "paper", "parameters": {"depth": 20}, "trainable": "0.27 M"},
    {"configuration": "paper", "parameters": {"depth": 32}, "trainable": "0.46 M"},
    {"configuration": "paper", "parameters": {"depth": 44}, "trainable": "0.66 M"},
    {"configuration": "paper", "parameters": {"depth": 56}, "trainable": "0.85 M"},
    {"configuration": "paper", "parameters": {"depth": 110}, "trainable": "1.7 M"},
]


def build(batch, depth, width, data=None):
    """Build three stages of (depth - 2) / 6 blocks. Shortcuts have no weights (option A)."""
    import tensorflow as tf

    from guest.models import _datasets, _layers

    def convolution(h, filters, stride, name, activation=None):
        return _layers.convolution(h, filters, 3, stride, name, {"momentum": 0.9}, activation)

    draw = data and _datasets.draws(_datasets.cifar10(data), batch, _datasets.shifted_and_flipped)
    x, y, inputs = _layers.labelled_images(batch, 32, 3, 10, draw)
    h = convolution(x, width, 1, "first", tf.nn.relu)
    for stage in range(3):
        filters = width << stage
        for block in range((depth - 2) // 6):
            stride = 2 if stage > 0 and block == 0 else 1
            name = "stage%d_block%d" % (stage, block)
            shortcut = h
            h = convolution(h, filters, stride, name + "_a", tf.nn.relu)
            h = convolution(h, filters, 1, name + "_b")
            with tf.name_scope(name + "_b/"):
                if stride == 2:
                    before = filters // 4
                    padding = [[0, 0], [0, 0], [0, 0], [before, filters // 2 - before]]
                    shortcut = tf.pad(shortcut[:, ::2, ::2, :], padding)
                h = tf.nn.relu(h + shortcut)
    with tf.variable_scope("classifier"):
        logits = tf.layers.dense(tf.reduce_mean(h, [1, 2]), 10)
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    loss += _layers.weight_decay(1e-4, [v for v in tf.trainable_variables() if "kernel" in v.name])
    # The deepest network does not start to converge at a rate of 0.1 (section 4.2).
    optimizer = tf.train.MomentumOptimizer(0.01 if depth >= 110 else 0.1, 0.9)
    return inputs, [_layers.minimize(optimizer, loss)], loss
