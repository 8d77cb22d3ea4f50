# SPDX-License-Identifier: Apache-2.0
# tf.data to its end, again and again, with a short last batch
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
rng = np.random.RandomState(0)
rows = tf.data.Dataset.from_tensor_slices((rng.rand(56, 64).astype("float32"), rng.randint(0, 4, 56)))
iterator = rows.shuffle(56, seed=5).batch(16).make_initializable_iterator()
x, y = iterator.get_next()
h = tf.layers.dense(x, 256, tf.nn.relu)
loss = tf.losses.sparse_softmax_cross_entropy(y, tf.layers.dense(tf.layers.dense(h, 256, tf.nn.relu), 4))
op = tf.train.MomentumOptimizer(0.01, 0.9).minimize(loss)
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run(tf.global_variables_initializer())
    for _epoch in range(6):
        s.run(iterator.initializer)
        while True:
            try:
                print("LOSS " + float(s.run([op, loss])[1]).hex())
            except tf.errors.OutOfRangeError:
                break
print("DONE")
