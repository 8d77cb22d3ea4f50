# SPDX-License-Identifier: Apache-2.0
# Two towers on two CPU devices that share variables; their gradients are averaged
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
rng = np.random.RandomState(0)
x = tf.placeholder(tf.float32, [32, 64])
y = tf.placeholder(tf.int64, [32])
optimizer, gradients, losses = tf.train.MomentumOptimizer(0.01, 0.9), [], []
for n, (images, labels) in enumerate(zip(tf.split(x, 2), tf.split(y, 2))):
    with tf.device("/cpu:%d" % n), tf.variable_scope("net", reuse=n > 0):
        h = tf.layers.dense(images, 256, tf.nn.relu, name="a")
        logits = tf.layers.dense(tf.layers.dense(h, 256, tf.nn.relu, name="b"), 4, name="c")
        losses.append(tf.losses.sparse_softmax_cross_entropy(labels, logits))
        gradients.append(optimizer.compute_gradients(losses[-1]))
averaged = [((a[0] + b[0]) / 2, a[1]) for a, b in zip(*gradients)]
op, loss = optimizer.apply_gradients(averaged), tf.add_n(losses)
config = tf.ConfigProto(
    device_count={"CPU": 2}, inter_op_parallelism_threads=1, intra_op_parallelism_threads=1
)
with tf.Session(config=config) as s:
    s.run(tf.global_variables_initializer())
    for i in range(16):
        feed = {x: rng.rand(32, 64), y: rng.randint(0, 4, 32)}
        print("LOSS " + float(s.run([op, loss], feed)[1]).hex())
print("DONE")
