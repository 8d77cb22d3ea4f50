# SPDX-License-Identifier: Apache-2.0
# A dynamic RNN (loops and TensorArray), words looked up in a table, assertions
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
rng = np.random.RandomState(0)
words = ["the", "cat", "sat", "on", "mat"]
text = tf.placeholder(tf.string, [8])
table = tf.contrib.lookup.index_table_from_tensor(words, num_oov_buckets=1)
tokens = tf.sparse_tensor_to_dense(tf.string_split(text), "")
ids = table.lookup(tokens)
embedding = tf.get_variable("embedding", [6, 64])
cell = tf.nn.rnn_cell.GRUCell(64)
lengths = tf.reduce_sum(tf.cast(tf.not_equal(tokens, ""), tf.int32), 1)
with tf.control_dependencies([tf.assert_positive(lengths)]):
    _, state = tf.nn.dynamic_rnn(cell, tf.nn.embedding_lookup(embedding, ids), lengths, dtype=tf.float32)
loss = tf.reduce_mean(tf.square(tf.layers.dense(state, 1) - 1))
gradients, variables = zip(*tf.train.AdamOptimizer(1e-2).compute_gradients(loss))
op = tf.train.AdamOptimizer(1e-2).apply_gradients(zip(tf.clip_by_global_norm(gradients, 5.0)[0], variables))
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run([tf.global_variables_initializer(), tf.tables_initializer()])
    for i in range(16):
        lines = [" ".join(rng.choice(words + ["dog"], 6)) for _ in range(8)]
        print("LOSS " + float(s.run([op, loss], {text: lines})[1]).hex())
print("DONE")
