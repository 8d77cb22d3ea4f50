# SPDX-License-Identifier: Apache-2.0
# One thread trains while another evaluates in the same session
import threading

import numpy as np
import tensorflow as tf

x = tf.placeholder(tf.float32, [16, 64])
w = tf.Variable(tf.zeros([64, 64]))
h = x
for _ in range(20):
    h = tf.tanh(tf.matmul(h, w))
loss = tf.reduce_mean(tf.square(h - x))
op = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
over = []
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=2, intra_op_parallelism_threads=1)) as s:
    s.run(tf.global_variables_initializer())

    def look():
        while not over:
            s.run(loss, {x: np.ones([16, 64])})

    t = threading.Thread(target=look)
    t.start()
    for i in range(40):
        s.run(op, {x: np.ones([16, 64])})
    over.append(1)
    t.join()
print("DONE")
