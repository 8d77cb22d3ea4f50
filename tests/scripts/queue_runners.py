# SPDX-License-Identifier: Apache-2.0
# Queue runners and a Coordinator
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
rng = np.random.RandomState(0)
X = rng.rand(200, 16, 16, 1).astype("float32")
Y = rng.randint(0, 10, 200).astype("int32")
a, b = tf.train.slice_input_producer([X, Y], shuffle=True, seed=1)
x, y = tf.train.batch([a * 2 - 1, b], 16, num_threads=1, capacity=64)
h = tf.layers.conv2d(x, 16, 3, activation=tf.nn.relu)
h = tf.layers.conv2d(h, 16, 3, 2, activation=tf.nn.relu)
loss = tf.losses.sparse_softmax_cross_entropy(y, tf.layers.dense(tf.layers.flatten(h), 10))
op = tf.train.AdamOptimizer(1e-3).minimize(loss)
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
    coord = tf.train.Coordinator()
    threads = tf.train.start_queue_runners(s, coord)
    for i in range(20):
        _, v = s.run([op, loss])
        print("LOSS " + float(v).hex())
    coord.request_stop()
    coord.join(threads)
print("DONE")
