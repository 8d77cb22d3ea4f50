# SPDX-License-Identifier: Apache-2.0
"""An unrolled LSTM layer. python2.7 with TensorFlow 1.13.1."""

from __future__ import absolute_import, division, print_function

DESCRIPTION = "one unrolled LSTM layer over sequences of 64 features; classifies the last output"
PARAMETERS = {
    "batch": {"default": 8, "minimum": 1, "maximum": 1024, "description": "sequences per step"},
    "time_steps": {"default": 20, "minimum": 1, "maximum": 1000, "description": "length of a sequence"},
    "hidden": {"default": 128, "minimum": 1, "maximum": 4096, "description": "hidden units"},
}
_FEATURES = 64


def build(batch, time_steps, hidden):
    """Build the layer with static_rnn."""
    import tensorflow as tf

    from guest.models import _layers, _synthetic

    x = tf.placeholder(tf.float32, [batch, time_steps, _FEATURES], name="sequence")
    y = tf.placeholder(tf.int64, [batch], name="labels")
    cell = tf.nn.rnn_cell.BasicLSTMCell(hidden)
    outputs, _ = tf.nn.static_rnn(cell, tf.unstack(x, axis=1), dtype=tf.float32)
    loss = tf.losses.sparse_softmax_cross_entropy(y, tf.layers.dense(outputs[-1], 10))
    train = tf.train.MomentumOptimizer(0.01, 0.9).minimize(loss)

    def draw(r):
        sequence = r.randn(batch, time_steps, _FEATURES).astype("float32")
        return {"labels": _synthetic.labels(r, batch, 10), "sequence": sequence}

    return _layers.inputs({"labels": y, "sequence": x}, draw), [train], loss
