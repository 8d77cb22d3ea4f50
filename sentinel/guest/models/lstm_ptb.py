# SPDX-License-Identifier: Apache-2.0
"""LSTM language model for the Penn Treebank. python2.7 with TensorFlow 1.13.1."""

from __future__ import absolute_import, division, print_function

DESCRIPTION = "LSTM language model"
SOURCE = "Zaremba et al. 2014, arXiv 1409.2329, section 4.1"
DATA = "Penn Treebank"
PARAMETERS = {
    "batch": {"default": 3, "minimum": 1, "maximum": 1024, "description": "sequences per step"},
    "time_steps": {"default": 35, "minimum": 1, "maximum": 1000, "description": "words of a sequence"},
    "layers": {"default": 2, "minimum": 1, "maximum": 16, "description": "LSTM layers"},
    "hidden": {"default": 350, "minimum": 1, "maximum": 4096, "description": "units of a layer"},
    "vocabulary": {"default": 2300, "minimum": 2, "maximum": 1000000, "description": "words"},
    "keep": {"default": 35, "minimum": 1, "maximum": 100, "description": "percent that dropout keeps"},
}
_LARGE = {"batch": 20, "time_steps": 35, "layers": 2, "hidden": 1500, "vocabulary": 10000, "keep": 35}
CONFIGURATIONS = {
    "small": dict(_LARGE, time_steps=20, hidden=200, keep=100),
    "medium": dict(_LARGE, hidden=650, keep=50),
    "large": _LARGE,
    "paper": _LARGE,
    "emulated": {},
}
PUBLISHED = [
    {"configuration": "small", "trainable": "4.65 M"},
    {"configuration": "medium", "trainable": "19.8 M"},
    {"configuration": "large", "trainable": "66.0 M"},
]


def _initial_range(hidden):
    """Return the bound of the uniform initialisation, which the paper gives for three sizes."""
    return 0.1 if hidden < 650 else 0.05 if hidden < 1500 else 0.04


def build(batch, time_steps, layers, hidden, vocabulary, keep, data=None):
    """Build the unrolled network. Each step continues with the state that the last one left in variables."""
    import tensorflow as tf

    from guest.models import _datasets, _synthetic

    text = tf.placeholder(tf.int32, [batch, time_steps + 1], name="text")
    bound = _initial_range(hidden)

    def dropout(h):
        return h if keep == 100 else tf.nn.dropout(h, keep / 100.0)

    with tf.variable_scope("", initializer=tf.random_uniform_initializer(-bound, bound)):
        with tf.variable_scope("embedding"):
            h = tf.nn.embedding_lookup(tf.get_variable("words", [vocabulary, hidden]), text[:, :-1])
            inputs = tf.unstack(dropout(h), axis=1)
        cells, state = [], []
        for layer in range(layers):
            cell = tf.nn.rnn_cell.BasicLSTMCell(hidden, forget_bias=0.0)
            if keep < 100:
                cell = tf.nn.rnn_cell.DropoutWrapper(cell, output_keep_prob=keep / 100.0)
            cells.append(cell)
            with tf.variable_scope("state", initializer=tf.zeros_initializer()):
                parts = [
                    tf.get_variable("%s%d" % (part, layer), [batch, hidden], trainable=False) for part in "ch"
                ]
            state.append(tf.nn.rnn_cell.LSTMStateTuple(*parts))
        network = tf.nn.rnn_cell.MultiRNNCell(cells)
        outputs, final_state = tf.nn.static_rnn(network, inputs, initial_state=tuple(state))
        with tf.variable_scope("softmax"):
            h = tf.reshape(tf.stack(outputs, axis=1), [batch * time_steps, hidden])
            logits = tf.layers.dense(h, vocabulary)
    with tf.name_scope("loss"):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.reshape(text[:, 1:], [-1]), logits=logits
        )
        loss = tf.reduce_sum(losses) / batch  # summed over the words of a sequence, averaged over the batch
    variables = tf.trainable_variables()
    gradients, _ = tf.clip_by_global_norm(tf.gradients(loss, variables), 10.0 if hidden >= 1500 else 5.0)
    train = tf.train.GradientDescentOptimizer(1.0).apply_gradients(list(zip(gradients, variables)))
    with tf.control_dependencies([train]), tf.name_scope("carry"):
        carried = [
            tf.assign(variable, value)
            for old, new in zip(state, final_state)
            for variable, value in zip(old, new)
        ]
        train = tf.group(*carried)


    def synthetic(r):
        return _synthetic.words(r, [batch, time_steps + 1], vocabulary)

    draw = _datasets.texts(_datasets.ptb(data, vocabulary), batch, time_steps) if data else synthetic
    return [(text, draw)], [train], loss
