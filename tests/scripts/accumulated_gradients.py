# SPDX-License-Identifier: Apache-2.0
# Accumulates gradients over 4 small batches with assign_add, then applies them
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
rng = np.random.RandomState(0)
x = tf.placeholder(tf.float32, [8, 64])
h = tf.layers.dense(x, 256, activation=tf.nn.relu, name="d1")
h = tf.layers.dense(h, 128, activation=tf.nn.relu, name="d2")
loss = tf.reduce_mean(tf.square(tf.layers.dense(h, 64, name="o") - x))
opt = tf.train.AdamOptimizer(1e-3)
tv = tf.trainable_variables()
acc = [tf.Variable(tf.zeros_like(v.initialized_value()), trainable=False) for v in tv]
zero = [a.assign(tf.zeros_like(a)) for a in acc]
gv = opt.compute_gradients(loss, tv)
accumulate = [a.assign_add(g) for a, (g, _) in zip(acc, gv)]
step = opt.apply_gradients([(a / 4, v) for a, v in zip(acc, tv)])
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run(tf.global_variables_initializer())
    for i in range(14):
        s.run(zero)
        for _ in range(4):
            _, v = s.run([accumulate, loss], {x: rng.rand(8, 64)})
        s.run(step)
        print("LOSS " + float(v).hex())
print("DONE")
