# SPDX-License-Identifier: Apache-2.0
"""The models: each builds a graph and makes one batch of synthetic data. python2.7, TensorFlow 1.13.1.

A builder returns (inputs, train_op, loss); `inputs` maps placeholders to functions of a numpy RandomState, so
that the data is made after the placement of memory has been decided.
"""

from __future__ import absolute_import, division, print_function

import tensorflow as tf


def _images(batch, side, channels):
    x = tf.placeholder(tf.float32, [batch, side, side, channels], name="images")
    return x, lambda r: r.randn(batch, side, side, channels).astype("float32")


def _labels(batch, classes=10):
    y = tf.placeholder(tf.int64, [batch], name="labels")
    return y, lambda r: r.randint(0, classes, batch)


def cnn(batch):
    """Two convolutions and a classifier on 28x28 images: the smallest network with both kinds of layer."""
    x, make_x = _images(batch, 28, 1)
    y, make_y = _labels(batch)
    h = x
    for filters in (16, 32):
        h = tf.layers.conv2d(h, filters, 3, 1, "same", activation=tf.nn.relu)
        h = tf.layers.max_pooling2d(h, 2, 2)
    logits = tf.layers.dense(tf.layers.flatten(h), 10)
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    train = tf.train.MomentumOptimizer(0.01, 0.9).minimize(loss)
    return [(x, make_x), (y, make_y)], train, loss


def lstm(batch, time_steps, hidden):
    """One unrolled LSTM layer over 64 features, classifying the last output."""
    features = 64
    x = tf.placeholder(tf.float32, [batch, time_steps, features], name="sequence")
    y, make_y = _labels(batch)
    cell = tf.nn.rnn_cell.BasicLSTMCell(hidden)
    outputs, _ = tf.nn.static_rnn(cell, tf.unstack(x, axis=1), dtype=tf.float32)
    loss = tf.losses.sparse_softmax_cross_entropy(y, tf.layers.dense(outputs[-1], 10))
    train = tf.train.MomentumOptimizer(0.01, 0.9).minimize(loss)
    return (
        [(x, lambda r: r.randn(batch, time_steps, features).astype("float32")), (y, make_y)],
        train,
        loss,
    )


def _resnet(batch, blocks):
    """The ResNets for 32x32 images (He et al. 2016, section 4.2; 1x1 projections where the shape changes)."""
    x, make_x = _images(batch, 32, 3)
    y, make_y = _labels(batch)

    def convolution(h, filters, stride, name, relu=True):
        with tf.variable_scope(name):
            h = tf.layers.conv2d(h, filters, 3, stride, "same", use_bias=False)
            h = tf.layers.batch_normalization(h, training=True, fused=True)
            return tf.nn.relu(h) if relu else h

    h = convolution(x, 16, 1, "first")
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            name = "stage%d_block%d" % (stage, block)
            shortcut = h
            h = convolution(h, filters, stride, name + "_a")
            h = convolution(h, filters, 1, name + "_b", relu=False)
            if stride == 2:
                shortcut = tf.layers.conv2d(
                    shortcut, filters, 1, 2, "same", use_bias=False, name=name + "_shortcut"
                )
            h = tf.nn.relu(h + shortcut)
    logits = tf.layers.dense(tf.reduce_mean(h, [1, 2]), 10)
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    train = tf.train.MomentumOptimizer(0.01, 0.9).minimize(loss)
    return [(x, make_x), (y, make_y)], train, loss


def resnet20(batch):
    """Three blocks a stage: wide and short, a convolution's scratch is a third of all."""
    return _resnet(batch, 3)


def resnet56(batch):
    """Nine blocks a stage: what one operation needs is little beside what waits for the backward pass."""
    return _resnet(batch, 9)


BUILDERS = {"cnn": cnn, "lstm": lstm, "resnet20": resnet20, "resnet56": resnet56}
