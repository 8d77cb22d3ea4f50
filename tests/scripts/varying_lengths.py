# SPDX-License-Identifier: Apache-2.0
# Sequence lengths differ between batches; the last batch is smaller
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
V, H = 100, 32
rng = np.random.RandomState(0)
data = [rng.randint(1, V, rng.randint(3, 7)) for _ in range(44)]
x = tf.placeholder(tf.int32, [None, None])
n = tf.placeholder(tf.int32, [None])
y = tf.placeholder(tf.float32, [None])
e = tf.nn.embedding_lookup(tf.get_variable("e", [V, H]), x)
_, st = tf.nn.dynamic_rnn(tf.nn.rnn_cell.GRUCell(H), e, n, dtype=tf.float32)
logit = tf.squeeze(tf.layers.dense(st, 1), 1)
loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=logit))
op = tf.train.AdamOptimizer(1e-3).minimize(loss)
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run(tf.global_variables_initializer())
    for epoch in range(3):
        for i in range(0, 44, 8):
            b = data[i : i + 8]
            l = [len(q) for q in b]
            m = np.zeros([len(b), max(l)], "int32")
            for k, q in enumerate(b):
                m[k, : len(q)] = q
            _, v = s.run([op, loss], {x: m, n: l, y: [q[0] % 2 for q in b]})
            print("LOSS " + float(v).hex())
print("DONE")
