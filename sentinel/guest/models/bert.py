# SPDX-License-Identifier: Apache-2.0
"""BERT. python2.7 with TensorFlow 1.13.1."""

from __future__ import absolute_import, division, print_function

import math

DESCRIPTION = "Transformer encoder with the heads of pre-training or classification"
SOURCE = "Devlin et al. 2018, arXiv 1810.04805, section 3; optimiser: google-research/bert, optimization.py"
DATA = "CoLA, with vocab.txt"
PARAMETERS = {
    "batch": {"default": 8, "minimum": 1, "maximum": 1024, "description": "sequences per step"},
    "sequence": {"default": 32, "minimum": 8, "maximum": 512, "description": "tokens of a sequence"},
    "layers": {"default": 12, "minimum": 1, "maximum": 48, "description": "layers of the encoder"},
    "hidden": {
        "default": 64,
        "minimum": 1,
        "maximum": 4096,
        "description": "units per token, a multiple of heads",
    },
    "heads": {"default": 4, "minimum": 1, "maximum": 64, "description": "attention heads of a layer"},
    "vocabulary": {"default": 1908, "minimum": 8, "maximum": 1000000, "description": "word pieces"},
    "task": {
        "default": "classification",
        "choices": ["classification", "pretraining"],
        "description": "two classes of sentences, or masked words and next sentence",
    },
}
_LARGE = {"batch": 32, "sequence": 128, "layers": 24, "hidden": 1024, "heads": 16, "vocabulary": 30522}
CONFIGURATIONS = {
    "base": dict(_LARGE, layers=12, hidden=768, heads=12),
    "large": _LARGE,
    "paper": _LARGE,
    "emulated": {},
}
HEADS = ["masked_words", "next_sentence", "classifier"]
PUBLISHED = [
    {"configuration": "base", "trainable": "109482240", "without": HEADS},
    {"configuration": "large", "trainable": "335141888", "without": HEADS},
]
_POSITIONS = 512
_MASKED = 0.15  # share of the tokens that pre-training predicts
_RATES = {"classification": (2e-5, 801, 80), "pretraining": (1e-4, 1000000, 10000)}  # rate, steps, warm-up


def _initializer():
    import tensorflow as tf

    return tf.truncated_normal_initializer(stddev=0.02)


def _dense(h, units, name, activation=None):
    import tensorflow as tf

    return tf.layers.dense(h, units, activation, kernel_initializer=_initializer(), name=name)


def _layer_norm(h):
    """Normalise the last dimension."""
    import tensorflow as tf

    with tf.variable_scope("LayerNorm"):
        units = h.shape[-1].value
        beta = tf.get_variable("beta", [units], initializer=tf.zeros_initializer())
        gamma = tf.get_variable("gamma", [units], initializer=tf.ones_initializer())
        mean, variance = tf.nn.moments(h, [-1], keep_dims=True)
        return tf.nn.batch_normalization(h, mean, variance, beta, gamma, 1e-12)


def _dropout(h):
    import tensorflow as tf

    return tf.nn.dropout(h, 0.9)


def _gelu(h):
    import tensorflow as tf

    return h * 0.5 * (1.0 + tf.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * tf.pow(h, 3))))


def _embeddings(tokens, segments, vocabulary, hidden):
    """Return the input of the encoder, one row a token, and the table of word pieces."""
    import tensorflow as tf

    batch, sequence = tokens.shape.as_list()
    with tf.variable_scope("embeddings", initializer=_initializer()):
        table = tf.get_variable("word_embeddings", [vocabulary, hidden])
        h = tf.reshape(tf.gather(table, tf.reshape(tokens, [-1])), [batch, sequence, hidden])
        segment_table = tf.get_variable("token_type_embeddings", [2, hidden])
        one_hot = tf.one_hot(tf.reshape(segments, [-1]), 2)
        h += tf.reshape(tf.matmul(one_hot, segment_table), [batch, sequence, hidden])
        h += tf.get_variable("position_embeddings", [_POSITIONS, hidden])[:sequence]
        return tf.reshape(_dropout(_layer_norm(h)), [-1, hidden]), table


def _attention(h, bias, heads):
    """Return the attention heads' outputs, concatenated."""
    import tensorflow as tf

    batch, sequence = bias.shape[0].value, bias.shape[-1].value
    hidden = h.shape[-1].value
    size = hidden // heads

    def split(name):
        parts = tf.reshape(_dense(h, hidden, name), [batch, sequence, heads, size])
        return tf.transpose(parts, [0, 2, 1, 3])

    query, key, value = split("query"), split("key"), split("value")
    scores = tf.matmul(query, key, transpose_b=True) * (1.0 / math.sqrt(size)) + bias
    context = tf.matmul(_dropout(tf.nn.softmax(scores)), value)
    return tf.reshape(tf.transpose(context, [0, 2, 1, 3]), [-1, hidden])


def _encoder(h, mask, layers, heads):
    import tensorflow as tf

    hidden = h.shape[-1].value
    batch, sequence = mask.shape.as_list()
    with tf.name_scope("mask"):
        rows = tf.ones([batch, sequence, 1]) * tf.cast(mask, tf.float32)[:, tf.newaxis, :]
        bias = (1.0 - rows[:, tf.newaxis]) * -10000.0
    for layer in range(layers):
        with tf.variable_scope("layer_%d" % layer):
            with tf.variable_scope("attention"):
                attention = _dropout(_dense(_attention(h, bias, heads), hidden, "output"))
                h = _layer_norm(attention + h)
            inner = _dense(h, 4 * hidden, "intermediate", _gelu)
            with tf.variable_scope("output"):
                h = _layer_norm(_dropout(_dense(inner, hidden, "dense")) + h)
    return h


def _pooled(h, batch):
    """Return the representation of each sequence: its first token through a dense layer."""
    import tensorflow as tf

    with tf.variable_scope("pooler"):
        first = tf.reshape(h, [batch, -1, h.shape[-1].value])[:, 0]
        return _dense(first, h.shape[-1].value, "dense", tf.tanh)


def _cross_entropy(logits, targets, weights=None):
    """Return the (weighted) mean of the cross entropy."""
    import tensorflow as tf

    classes = logits.shape[-1].value
    log_probabilities = tf.nn.log_softmax(logits)
    losses = -tf.reduce_sum(log_probabilities * tf.one_hot(targets, classes), -1)
    if weights is None:
        return tf.reduce_mean(losses)
    return tf.reduce_sum(weights * losses) / (tf.reduce_sum(weights) + 1e-5)


def _two_classes(pooled, targets, name):
    """Return the loss of a classification head with two classes."""
    import tensorflow as tf

    with tf.variable_scope(name):
        weights = tf.get_variable("output_weights", [2, pooled.shape[-1].value], initializer=_initializer())
        bias = tf.get_variable("output_bias", [2], initializer=tf.zeros_initializer())
        logits = tf.nn.bias_add(tf.matmul(pooled, weights, transpose_b=True), bias)
        return _cross_entropy(logits, targets)


def _masked_words(h, table, positions, targets, weights):
    """Return the loss of the masked words, which a dense layer and the table of word pieces predict."""
    import tensorflow as tf

    batch, count = positions.shape.as_list()
    hidden = h.shape[-1].value
    with tf.variable_scope("masked_words"):
        offsets = tf.range(batch)[:, tf.newaxis] * (h.shape[0].value // batch)
        h = tf.gather(h, tf.reshape(positions + offsets, [batch * count]))
        with tf.variable_scope("transform"):
            h = _layer_norm(_dense(h, hidden, "dense", _gelu))
        bias = tf.get_variable("output_bias", [table.shape[0].value], initializer=tf.zeros_initializer())
        logits = tf.nn.bias_add(tf.matmul(h, table, transpose_b=True), bias)
        return _cross_entropy(logits, tf.reshape(targets, [-1]), tf.reshape(weights, [-1]))


def _train(loss, rate, steps, warmup):
    """Return the training operation: Adam with decoupled weight decay, warm-up, linear decay and clipping."""
    import tensorflow as tf

    step = tf.train.get_or_create_global_step()
    with tf.name_scope("learning_rate"):
        decayed = tf.train.polynomial_decay(rate, step, steps, end_learning_rate=0.0)
        done = tf.cast(step, tf.float32) / warmup
        rate = tf.where(step < warmup, rate * done, decayed)
    variables = tf.trainable_variables()
    gradients, _ = tf.clip_by_global_norm(tf.gradients(loss, variables), 1.0)
    updates = []
    for variable, gradient in zip(variables, gradients):
        updates += _adam_weight_decay(variable, gradient, rate)
    with tf.control_dependencies(updates):
        return tf.assign_add(step, 1)


def _adam_weight_decay(variable, gradient, rate, beta1=0.9, beta2=0.999, epsilon=1e-6, decay=0.01):
    """Return the updates of a variable and its moments. There is no correction of their bias."""
    import tensorflow as tf

    name = variable.op.name
    first, second = (
        tf.get_variable(name + suffix, variable.shape, trainable=False, initializer=tf.zeros_initializer())
        for suffix in ("/adam_m", "/adam_v")
    )
    with tf.name_scope("update_%s/" % name.split("/")[0]):
        new_first = beta1 * first + tf.multiply(1.0 - beta1, gradient)
        new_second = beta2 * second + tf.multiply(1.0 - beta2, tf.square(gradient))
        change = new_first / (tf.sqrt(new_second) + epsilon)
        if not ("LayerNorm" in name or "bias" in name):
            change += decay * variable
        return [
            variable.assign(variable - rate * change),
            first.assign(new_first),
            second.assign(new_second),
        ]


def build(batch, sequence, layers, hidden, heads, vocabulary, task, data=None):
    """Build the encoder, the heads of the task and the optimiser."""
    import tensorflow as tf

    from guest.models import _datasets, _layers, _synthetic

    if data and task != "classification":
        raise ValueError("data is for classification")
    if hidden % heads:
        raise ValueError("hidden (%d) must be a multiple of heads (%d)" % (hidden, heads))
    masked = max(1, int(round(_MASKED * sequence))) if task == "pretraining" else 0
    shapes = {name: [batch, sequence] for name in ("tokens", "mask", "segments")}
    shapes["label"] = [batch]
    if masked:
        shapes.update(positions=[batch, masked], targets=[batch, masked], weights=[batch, masked])
    given = {
        name: tf.placeholder(tf.float32 if name == "weights" else tf.int32, shape, name=name)
        for name, shape in sorted(shapes.items())
    }
    h, table = _embeddings(given["tokens"], given["segments"], vocabulary, hidden)
    h = _encoder(h, given["mask"], layers, heads)
    pooled = _pooled(h, batch)
    if masked:
        loss = _masked_words(h, table, given["positions"], given["targets"], given["weights"])
        loss += _two_classes(pooled, given["label"], "next_sentence")
    else:
        loss = _two_classes(_dropout(pooled), given["label"], "classifier")
    train = _train(loss, *_RATES[task])


    def synthetic(r):
        if masked:
            return _synthetic.masked_sentences(r, batch, sequence, vocabulary, masked)
        return _synthetic.sentences(r, batch, sequence, vocabulary)

    draw = _datasets.draws(_datasets.cola(data, sequence, vocabulary), batch) if data else synthetic
    return _layers.inputs(given, draw), [train], loss
