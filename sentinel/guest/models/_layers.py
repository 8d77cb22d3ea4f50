# SPDX-License-Identifier: Apache-2.0
"""Parts that several models share. python2.7 with TensorFlow 1.13.1."""

from __future__ import absolute_import, division, print_function


def inputs(placeholders, draw):
    """Return the inputs of a model whose values belong together.

    `draw(r)` takes a numpy RandomState and returns a batch: the value of each of the `placeholders` by name.
    """
    batch = {}

    def maker(name, draws):
        def make(r):
            if draws:
                batch.update(draw(r))
            return batch[name]

        return make

    names = sorted(placeholders)
    return [(placeholders[name], maker(name, name == names[0])) for name in names]


def labelled_images(batch, side, channels, classes, draw=None):
    """Return placeholders for square images and their labels, and the inputs that feed them.

    `draw(r)` returns a batch of `images` and `labels`; by default it is synthetic.
    """
    import tensorflow as tf

    from guest.models import _synthetic

    x = tf.placeholder(tf.float32, [batch, side, side, channels], name="images")
    y = tf.placeholder(tf.int64, [batch], name="labels")

    def synthetic(r):
        return {
            "images": _synthetic.images(r, batch, side, channels),
            "labels": _synthetic.labels(r, batch, classes),
        }

    return x, y, inputs({"images": x, "labels": y}, draw or synthetic)


def convolution(h, filters, size, stride, name, batch_norm=None, activation=None):
    """Add a convolution without bias, batch normalisation (options in `batch_norm`) and an activation."""
    import tensorflow as tf

    with tf.variable_scope(name):
        initializer = tf.variance_scaling_initializer(2.0)
        h = tf.layers.conv2d(
            h, filters, size, stride, "same", use_bias=False, kernel_initializer=initializer
        )
        h = tf.layers.batch_normalization(h, training=True, fused=True, **(batch_norm or {}))
        return h if activation is None else activation(h)


def weight_decay(rate, variables):
    """Return the L2 penalty of `variables`, to be added to the loss."""
    import tensorflow as tf

    with tf.name_scope("weight_decay"):
        return rate * tf.add_n([tf.nn.l2_loss(v) for v in variables])


def minimize(optimizer, loss, variables=None, updates=None):
    """Return the operation that applies the optimiser and updates the averages of batch normalisation.

    By default it trains all variables and updates all averages.
    """
    import tensorflow as tf

    if updates is None:
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    with tf.control_dependencies(updates):
        return optimizer.minimize(loss, var_list=variables)
