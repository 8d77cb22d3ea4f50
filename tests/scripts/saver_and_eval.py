# SPDX-License-Identifier: Apache-2.0
# Checkpoints saved and restored, summaries, and an evaluation every few steps
import os
import tempfile

import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
rng = np.random.RandomState(0)
x, y = tf.placeholder(tf.float32, [None, 64]), tf.placeholder(tf.int64, [None])
h = tf.layers.dense(x, 256, tf.nn.relu)
logits = tf.layers.dense(tf.layers.dense(h, 256, tf.nn.relu), 4)
loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
accuracy, update = tf.metrics.accuracy(y, tf.argmax(logits, 1))
op = tf.train.AdamOptimizer(1e-3).minimize(loss)
tf.summary.scalar("loss", loss)
summaries, saver, folder = tf.summary.merge_all(), tf.train.Saver(), tempfile.mkdtemp()
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
    writer = tf.summary.FileWriter(folder, s.graph)
    for i in range(24):
        feed = {x: rng.rand(16, 64), y: rng.randint(0, 4, 16)}
        print("LOSS " + float(s.run([op, loss], feed)[1]).hex())
        if i % 4 == 3:
            s.run(update, {x: rng.rand(40, 64), y: rng.randint(0, 4, 40)})
            writer.add_summary(s.run(summaries, feed), i)
            saver.save(s, os.path.join(folder, "model"))
        if i == 12:
            saver.restore(s, os.path.join(folder, "model"))
    print("LOSS " + float(s.run(accuracy)).hex())
print("DONE")
