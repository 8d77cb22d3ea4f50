# SPDX-License-Identifier: Apache-2.0
# partial_run: the forward pass, then the rest with a value computed in Python
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
rng = np.random.RandomState(0)
x = tf.placeholder(tf.float32, [16, 64])
t = tf.placeholder(tf.float32, [16, 64])
h = tf.layers.dense(x, 128, activation=tf.nn.relu, name="d1")
out = tf.layers.dense(h, 64, name="o")
loss = tf.reduce_mean(tf.square(out - t))
op = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
with tf.control_dependencies([op]):
    done = tf.constant(1.0)
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run(tf.global_variables_initializer())
    for i in range(14):
        p = s.partial_run_setup([out, loss, done], [x, t])
        v = s.partial_run(p, out, {x: rng.rand(16, 64)})
        l, _ = s.partial_run(p, [loss, done], {t: np.tanh(v)})
        print("LOSS " + float(l).hex())
print("DONE")
