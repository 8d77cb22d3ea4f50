# SPDX-License-Identifier: Apache-2.0
# Hogwild: three threads train in one session, a fourth evaluates
import threading

import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
x = tf.placeholder(tf.float32, [16, 64])
h = tf.layers.dense(x, 128, activation=tf.nn.relu, name="d1")
h = tf.layers.dense(h, 128, activation=tf.nn.relu, name="d2")
loss = tf.reduce_mean(tf.square(tf.layers.dense(h, 64, name="o") - x))
op = tf.train.AdamOptimizer(1e-3).minimize(loss)
with tf.Session() as s:
    s.run(tf.global_variables_initializer())
    s.graph.finalize()
    left = [3]

    def work(k):
        rng = np.random.RandomState(k)
        for i in range(30):
            s.run([op, loss], {x: rng.rand(16, 64)})
        left[0] -= 1

    def look():
        rng = np.random.RandomState(9)
        while left[0] > 0:
            s.run(loss, {x: rng.rand(16, 64)})

    ts = [threading.Thread(target=work, args=(k,)) for k in range(3)] + [threading.Thread(target=look)]
    [t.start() for t in ts]
    [t.join() for t in ts]
    print("FINAL %.3f" % s.run(loss, {x: np.random.RandomState(5).rand(16, 64)}))
print("DONE")
