# SPDX-License-Identifier: Apache-2.0
# A session on a server in this process
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
rng = np.random.RandomState(0)
config = tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)
server = tf.train.Server.create_local_server(config)
x = tf.placeholder(tf.float32, [16, 64])
h = tf.layers.dense(tf.layers.dense(x, 256, tf.nn.relu), 256)
loss = tf.reduce_mean(tf.square(h - 1))
op = tf.train.GradientDescentOptimizer(0.05).minimize(loss)
with tf.Session(server.target) as s:
    s.run(tf.global_variables_initializer())
    for i in range(16):
        print("LOSS " + float(s.run([op, loss], {x: rng.rand(16, 64)})[1]).hex())
print("DONE")
