# SPDX-License-Identifier: Apache-2.0
"""Parts that several models share. python2.7 with TensorFlow 1.13.1."""

from __future__ import absolute_import, division, print_function


def images(batch, side, channels):
    """Return a placeholder for square images and the function that makes them."""
    import tensorflow as tf

    x = tf.placeholder(tf.float32, [batch, side, side, channels], name="images")
    return x, lambda r: r.randn(batch, side, side, channels).astype("float32")


def labels(batch, classes=10):
    """Return a placeholder for class labels and the function that makes them."""
    import tensorflow as tf

    y = tf.placeholder(tf.int64, [batch], name="labels")
    return y, lambda r: r.randint(0, classes, batch)


def resnet(batch, blocks):
    """Build a ResNet for 32x32 images: He et al. 2016, section 4.2, with 1x1 projections."""
    import tensorflow as tf

    x, make_x = images(batch, 32, 3)
    y, make_y = labels(batch)

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
