# SPDX-License-Identifier: Apache-2.0
"""DCGAN. python2.7 with TensorFlow 1.13.1."""

from __future__ import absolute_import, division, print_function

DESCRIPTION = "generator and discriminator, trained in turn"
SOURCE = "Radford et al. 2015, arXiv 1511.06434, figure 1; 28x28: the authors' network for MNIST"
DATA = "MNIST"
PARAMETERS = {
    "batch": {"default": 16, "minimum": 1, "maximum": 1024, "description": "images per step"},
    "side": {
        "default": 28,
        "choices": [28, 32, 64],
        "description": "side of an image: 28 as MNIST, grey and conditional on classes; others in colour",
    },
    "filters": {"default": 16, "minimum": 1, "maximum": 512, "description": "filters next to the image"},
}
CONFIGURATIONS = {
    "paper": {"batch": 128, "side": 28, "filters": 64},
    "faces": {"batch": 128, "side": 64, "filters": 128},
    "emulated": {},
}
PUBLISHED = [
    {"configuration": "paper", "trainable": "13525764", "source": "sum of the layers for MNIST"},
    {"configuration": "faces", "trainable": "36118528", "source": "sum of the layers of figure 1"},
]
_NOISE = 100
_CLASSES = 10


def _initializer():
    import tensorflow as tf

    return tf.random_normal_initializer(stddev=0.02)


def _leaky_relu(h):
    import tensorflow as tf

    return tf.nn.leaky_relu(h, 0.2)


def _normalised(h, activation):
    import tensorflow as tf

    fused = h.shape.ndims == 4
    return activation(tf.layers.batch_normalization(h, training=True, fused=fused, momentum=0.9))


def _dense(h, units):
    import tensorflow as tf

    return tf.layers.dense(h, units, use_bias=False, kernel_initializer=_initializer())


def _convolution(h, filters, transposed=False):
    import tensorflow as tf

    layer = tf.layers.conv2d_transpose if transposed else tf.layers.conv2d
    return layer(h, filters, 5, 2, "same", use_bias=False, kernel_initializer=_initializer())


def _with_classes(h, classes):
    """Append the one-hot classes of a batch to its units or channels. Without classes, return `h`."""
    import tensorflow as tf

    if classes is None:
        return h
    if h.shape.ndims == 4:
        classes = classes[:, tf.newaxis, tf.newaxis, :] * tf.ones(h.shape.as_list()[:3] + [1])
    return tf.concat([h, classes], -1)


def _network(side, filters):
    """Return the units of the dense layers, and (side, channels) of the images between the others.

    The discriminator has the same layers in the opposite order.
    """
    if side == 28:
        return [16 * filters], [(7, 2 * filters), (14, filters), (28, 1)]
    stages = 3 if side == 32 else 4
    return [], [(4 << i, filters << (stages - 1 - i)) for i in range(stages)] + [(side, 3)]


def _generator(noise, classes, side, filters):
    """Return images with values from -1 to 1."""
    import tensorflow as tf

    dense, images = _network(side, filters)
    first, channels = images[0]
    h = noise
    for i, units in enumerate(dense + [first * first * channels]):
        with tf.variable_scope("generator_dense%d" % (i + 1)):
            h = _normalised(_dense(_with_classes(h, classes), units), tf.nn.relu)
    h = tf.reshape(h, [-1, first, first, channels])
    for i, (_, channels) in enumerate(images[1:-1]):
        with tf.variable_scope("generator_convolution%d" % (i + 1)):
            h = _convolution(_with_classes(h, classes), channels, transposed=True)
            h = _normalised(h, tf.nn.relu)
    with tf.variable_scope("generator_image"):
        return tf.tanh(_convolution(_with_classes(h, classes), images[-1][1], transposed=True))


def _discriminator(images, classes, side, filters):
    """Return a logit for each image: whether it is real."""
    import tensorflow as tf

    dense, stages = _network(side, filters)
    h = images
    for i, (_, channels) in enumerate(reversed(stages[:-1])):
        with tf.variable_scope("discriminator_convolution%d" % (i + 1), reuse=tf.AUTO_REUSE):
            h = _convolution(_with_classes(h, classes), channels)
            h = _leaky_relu(h) if i == 0 else _normalised(h, _leaky_relu)
    h = tf.layers.flatten(h)
    for i, units in enumerate(dense):
        with tf.variable_scope("discriminator_dense%d" % (i + 1), reuse=tf.AUTO_REUSE):
            h = _normalised(_dense(_with_classes(h, classes), units), _leaky_relu)
    with tf.variable_scope("discriminator_output", reuse=tf.AUTO_REUSE):
        return _dense(_with_classes(h, classes), 1)


def _cross_entropy(logits, real):
    """Return the mean cross entropy if the images of all logits are real, or none."""
    import tensorflow as tf

    targets = tf.ones_like(logits) if real else tf.zeros_like(logits)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits))


def build(batch, side, filters, data=None):
    """Build both networks. The first operation trains the discriminator, the second the generator."""
    import tensorflow as tf

    from guest.models import _datasets, _layers

    conditional = side == 28
    if data and not conditional:
        raise ValueError("data is for images of 28x28 pixels")
    draw = data and _datasets.draws(_datasets.mnist(data), batch)
    x, y, inputs = _layers.labelled_images(batch, side, 1 if conditional else 3, _CLASSES, draw)
    classes = tf.one_hot(y, _CLASSES) if conditional else None
    with tf.name_scope("noise"):
        noise = tf.random_uniform([batch, _NOISE], -1.0, 1.0)
    fakes = _generator(noise, classes, side, filters)
    on_reals = _discriminator(x, classes, side, filters)
    on_fakes = _discriminator(fakes, classes, side, filters)
    with tf.name_scope("discriminator_loss"):
        discriminator_loss = _cross_entropy(on_reals, True) + _cross_entropy(on_fakes, False)
    with tf.name_scope("generator_loss"):
        generator_loss = _cross_entropy(on_fakes, True)

    def minimize(loss, network):
        return _layers.minimize(
            tf.train.AdamOptimizer(2e-4, beta1=0.5, name="%s_adam" % network),
            loss,
            [v for v in tf.trainable_variables() if v.name.startswith(network)],
            [op for op in tf.get_collection(tf.GraphKeys.UPDATE_OPS) if op.name.startswith(network)],
        )

    train = [minimize(discriminator_loss, "discriminator"), minimize(generator_loss, "generator")]
    return inputs, train, generator_loss
