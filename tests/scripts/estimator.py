# SPDX-License-Identifier: Apache-2.0
# An estimator with train_and_evaluate: a graph and a monitored session for each round
import tempfile

import numpy as np
import tensorflow as tf

tf.logging.set_verbosity(tf.logging.ERROR)
rng = np.random.RandomState(0)
images, labels = rng.rand(64, 32).astype("float32"), rng.randint(0, 4, 64)


def data():
    return tf.data.Dataset.from_tensor_slices((images, labels)).repeat().batch(16)


def model(features, labels, mode):
    h = tf.layers.dense(features, 256, tf.nn.relu)
    h = tf.layers.dropout(h, 0.1, training=mode == tf.estimator.ModeKeys.TRAIN, seed=3)
    logits = tf.layers.dense(tf.layers.dense(h, 256, tf.nn.relu), 4)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    accuracy = tf.metrics.accuracy(labels, tf.argmax(logits, 1))
    step = tf.train.get_global_step()
    return tf.estimator.EstimatorSpec(
        mode,
        loss=loss,
        train_op=tf.train.AdamOptimizer(1e-3).minimize(loss, step),
        eval_metric_ops={"accuracy": accuracy},
    )


config = tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)
run = tf.estimator.RunConfig(tempfile.mkdtemp(), 1, session_config=config, save_checkpoints_steps=10)
estimator = tf.estimator.Estimator(model, config=run)
result, _ = tf.estimator.train_and_evaluate(
    estimator,
    tf.estimator.TrainSpec(data, 30),
    tf.estimator.EvalSpec(data, 2, start_delay_secs=0, throttle_secs=0),
)
print("LOSS " + float(result["loss"]).hex())
print("DONE")
