# SPDX-License-Identifier: Apache-2.0
# Callables of a session, with and without feeds
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
rng = np.random.RandomState(0)
x = tf.placeholder(tf.float32, [16, 64])
stored = tf.get_variable("stored", initializer=rng.rand(16, 64).astype("float32"), trainable=False)


def network(h):
    with tf.variable_scope("net", reuse=tf.AUTO_REUSE):
        h = tf.layers.dense(h, 256, tf.nn.relu, name="a")
        return tf.reduce_mean(tf.square(tf.layers.dense(h, 256, name="b") - 1))


optimizer = tf.train.GradientDescentOptimizer(0.05)
fed, held = network(x), network(stored)
train_fed, train_held = optimizer.minimize(fed), optimizer.minimize(held)
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run(tf.global_variables_initializer())
    with_feeds = s.make_callable([train_fed, fed], [x])
    without, single = s.make_callable([train_held, held]), s.make_callable(train_held)
    for i in range(10):
        print("LOSS " + float(with_feeds(rng.rand(16, 64))[1]).hex())
        print("LOSS " + float(without()[1]).hex())
        single()
print("DONE")
