# SPDX-License-Identifier: Apache-2.0
# Forks a worker before the first step; the worker outlives it
import multiprocessing as mp
import sys
import time

import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
x = tf.placeholder(tf.float32, [16, 256])
h = x
ws = []
for i in range(4):
    w = tf.get_variable("w%d" % i, [256, 256])
    ws.append(w)
    h = tf.tanh(tf.matmul(h, w))
loss = tf.reduce_mean(tf.square(h - x))
op = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run(tf.global_variables_initializer())
    if "fork" in sys.argv:
        p = mp.Process(target=time.sleep, args=(600,))
        p.daemon = True
        p.start()
    for i in range(12):
        if i == 6 and "mid" in sys.argv:
            p = mp.Process(target=time.sleep, args=(1,))
            p.start()
        print("LOSS " + float(s.run([op, loss], {x: np.ones([16, 256])})[1]).hex())
    if "fork" in sys.argv:
        p.terminate()
    if "mid" in sys.argv:
        p.join()
print("DONE")
