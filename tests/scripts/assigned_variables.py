# SPDX-License-Identifier: Apache-2.0
# Updates variables with Variable.assign, as BERT's optimiser does
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
x = tf.placeholder(tf.float32, [16, 64])
w = tf.get_variable("w", [64, 64])
loss = tf.reduce_mean(tf.square(tf.tanh(tf.matmul(x, w)) - x))
op = w.assign(w - 0.1 * tf.gradients(loss, w)[0])
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run(tf.global_variables_initializer())
    for i in range(12):
        print("LOSS " + float(s.run([op, loss], {x: np.ones([16, 64])})[1]).hex())
print("DONE")
