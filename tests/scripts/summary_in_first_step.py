# SPDX-License-Identifier: Apache-2.0
# The first step also fetches a summary, as SummarySaverHook does
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
x = tf.placeholder(tf.float32, [16, 64])
w = tf.Variable(tf.random_normal([64, 64], seed=1))
h = tf.tanh(tf.matmul(x, w))
loss = tf.reduce_mean(tf.square(h - x))
op = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
tf.summary.scalar("loss", loss)
merged = tf.summary.merge_all()
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run(tf.global_variables_initializer())
    for i in range(12):
        v = s.run([op, loss] + ([merged] if i % 10 == 0 else []), {x: np.ones([16, 64])})[1]
        print("LOSS " + float(v).hex())
print("DONE")
