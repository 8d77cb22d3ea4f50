# SPDX-License-Identifier: Apache-2.0
# tf.cond takes its other branch in every third step
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
rng = np.random.RandomState(0)
X = rng.rand(16, 64).astype("float32")
x = tf.placeholder(tf.float32, [16, 64])
extra = tf.placeholder(tf.bool, [])
h = tf.layers.dense(x, 128, activation=tf.nn.relu, name="d1")
h = tf.layers.dense(h, 128, activation=tf.nn.relu, name="d2")
w = tf.get_variable("w", [128, 128])
h2 = tf.cond(extra, lambda: tf.nn.relu(tf.matmul(tf.matmul(h, w), w)), lambda: h)
loss = tf.reduce_mean(tf.square(tf.layers.dense(h2, 64, name="o") - x))
op = tf.train.AdamOptimizer(1e-3).minimize(loss)
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run(tf.global_variables_initializer())
    for i in range(21):
        v, _ = s.run([loss, op], {x: X, extra: i % 3 == 0})
        print("LOSS " + float(v).hex())
print("DONE")
