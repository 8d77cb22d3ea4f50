# SPDX-License-Identifier: Apache-2.0
# Fetches a SparseTensor with the training operation
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
rng = np.random.RandomState(0)
x = tf.placeholder(tf.float32, [16, 64])
h = tf.layers.dense(x, 256, activation=tf.nn.relu)
o = tf.layers.dense(h, 64)
loss = tf.reduce_mean(tf.square(o - x))
op = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
sp = tf.SparseTensor(tf.where(o > 0.5), tf.gather_nd(o, tf.where(o > 0.5)), [16, 64])
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run(tf.global_variables_initializer())
    for i in range(14):
        _, v, _ = s.run([op, loss, sp], {x: rng.rand(16, 64)})
        print("LOSS " + float(v).hex())
print("DONE")
