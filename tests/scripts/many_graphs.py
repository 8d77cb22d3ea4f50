# SPDX-License-Identifier: Apache-2.0
# Builds and drops graphs as evaluation loops do, and counts those that stay alive
import gc
import weakref

import tensorflow as tf

refs = []
for n in range(5):
    with tf.Graph().as_default() as g, tf.Session() as s:
        w = tf.Variable(tf.zeros([64, 64]))
        loss = tf.reduce_sum(tf.matmul(w, w))
        op = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        s.run(tf.global_variables_initializer())
        s.run(op)
        s.run(loss)
    refs.append(weakref.ref(g))
    del g, w, loss, op, s
gc.collect()
print("GRAPHS ALIVE %d of 5" % sum(r() is not None for r in refs))
print("DONE")
