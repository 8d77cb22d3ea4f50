# SPDX-License-Identifier: Apache-2.0
# DCGAN: one discriminator and two generator updates per iteration, each in its own session.run()
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
B = 4
rng = np.random.RandomState(0)


def bn(h, name):
    return tf.contrib.layers.batch_norm(
        h, decay=0.9, updates_collections=None, epsilon=1e-5, scale=True, is_training=True, scope=name
    )


def G(z):
    with tf.variable_scope("generator"):
        h = tf.nn.relu(bn(tf.reshape(tf.layers.dense(z, 4 * 4 * 16), [-1, 4, 4, 16]), "b0"))
        h = tf.nn.relu(bn(tf.layers.conv2d_transpose(h, 16, 5, 2, "same"), "b1"))
        return tf.nn.tanh(tf.layers.conv2d_transpose(h, 1, 5, 2, "same"))


def D(x, reuse=False):
    with tf.variable_scope("discriminator", reuse=reuse):
        h = tf.nn.leaky_relu(tf.layers.conv2d(x, 16, 5, 2, "same"))
        h = tf.nn.leaky_relu(bn(tf.layers.conv2d(h, 16, 5, 2, "same"), "b2"))
        return tf.layers.dense(tf.layers.flatten(h), 1)


real = tf.placeholder(tf.float32, [B, 16, 16, 1])
z = tf.placeholder(tf.float32, [B, 32])
fake = G(z)
dr, df = D(real), D(fake, True)
ce = tf.nn.sigmoid_cross_entropy_with_logits
d_loss = tf.reduce_mean(ce(labels=tf.ones_like(dr), logits=dr)) + tf.reduce_mean(
    ce(labels=tf.zeros_like(df), logits=df)
)
g_loss = tf.reduce_mean(ce(labels=tf.ones_like(df), logits=df))
tv = tf.trainable_variables()
opt = lambda l, s: tf.train.AdamOptimizer(2e-4, 0.5).minimize(
    l, var_list=[v for v in tv if v.name.startswith(s)]
)
d_op, g_op = opt(d_loss, "disc"), opt(g_loss, "gen")
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run(tf.global_variables_initializer())
    for i in range(6):
        x = rng.rand(B, 16, 16, 1)
        zz = rng.uniform(-1, 1, [B, 32])
        s.run(d_op, {real: x, z: zz})
        s.run(g_op, {z: zz})
        s.run(g_op, {z: zz})
        print("LOSS " + float(d_loss.eval({real: x, z: zz})).hex())
        print("LOSS " + float(g_loss.eval({z: zz})).hex())
print("DONE")
