# SPDX-License-Identifier: Apache-2.0
"""A small convolutional network. python2.7 with TensorFlow 1.13.1."""

from __future__ import absolute_import, division, print_function

DESCRIPTION = "two convolutions, two poolings and a dense layer on 28x28 images"
PARAMETERS = {"batch": {"default": 8, "minimum": 1, "maximum": 1024, "description": "images per step"}}


def build(batch):
    """Build the smallest network with both kinds of layer."""
    import tensorflow as tf

    from guest.models import _layers

    x, y, inputs = _layers.labelled_images(batch, 28, 1, classes=10)
    h = x
    for filters in (16, 32):
        h = tf.layers.conv2d(h, filters, 3, 1, "same", activation=tf.nn.relu)
        h = tf.layers.max_pooling2d(h, 2, 2)
    logits = tf.layers.dense(tf.layers.flatten(h), 10)
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    train = tf.train.MomentumOptimizer(0.01, 0.9).minimize(loss)
    return inputs, [train], loss
