# SPDX-License-Identifier: Apache-2.0
# Two threads train in one session
import sys
import threading

import numpy as np
import tensorflow as tf

x = tf.placeholder(tf.float32, [16, 64])
w = tf.Variable(tf.zeros([64, 64]))
h = x
for _ in range(20):
    h = tf.tanh(tf.matmul(h, w))
op = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_mean(tf.square(h - x)))
with tf.Session() as s:
    s.run(tf.global_variables_initializer())

    def work():
        for i in range(60):
            s.run(op, {x: np.ones([16, 64])})

    ts = [threading.Thread(target=work) for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 2)]
    [t.start() for t in ts]
    [t.join() for t in ts]
print("DONE")
