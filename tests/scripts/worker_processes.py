# SPDX-License-Identifier: Apache-2.0
# multiprocessing workers load data; they start after the session exists, and again during training
import multiprocessing as mp

import numpy as np
import tensorflow as tf

tf.set_random_seed(1)


def worker(q, seed, n):
    rng = np.random.RandomState(seed)
    for _ in range(n):
        q.put(rng.rand(16, 64).astype("float32"))


x = tf.placeholder(tf.float32, [16, 64])
h = tf.layers.dense(x, 256, activation=tf.nn.relu, name="d1")
h = tf.layers.dense(h, 256, activation=tf.nn.relu, name="d2")
loss = tf.reduce_mean(tf.square(tf.layers.dense(h, 64, name="o") - x))
op = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run(tf.global_variables_initializer())
    for part in range(3):
        q = mp.Queue(4)
        p = mp.Process(target=worker, args=(q, part, 10))
        p.daemon = True
        p.start()
        for i in range(10):
            _, v = s.run([op, loss], {x: q.get(timeout=60)})
            print("LOSS " + float(v).hex())
        p.join()
    pool = mp.Pool(2)
    print(pool.map(abs, [-1, -2]))
    pool.close()
    pool.join()
print("DONE")
