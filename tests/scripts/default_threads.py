# SPDX-License-Identifier: Apache-2.0
# Uses TensorFlow's default number of threads
import numpy as np
import tensorflow as tf

slim = tf.contrib.slim
tf.set_random_seed(1)
rng = np.random.RandomState(0)
x = tf.placeholder(tf.float32, [8, 32, 32, 3])
y = tf.placeholder(tf.int32, [8])
with slim.arg_scope(  # noqa: SIM117 (python2.7)
    [slim.conv2d, slim.separable_conv2d],
    activation_fn=tf.nn.relu6,
    normalizer_fn=slim.batch_norm,
    weights_regularizer=slim.l2_regularizer(4e-5),
):
    with slim.arg_scope([slim.batch_norm], is_training=True, center=True, scale=True, decay=0.99):
        h = slim.conv2d(x, 8, 3, stride=2, scope="Conv2d_0")
        for i, (c, st) in enumerate([(16, 1), (32, 2), (32, 1), (64, 2)]):
            h = slim.separable_conv2d(
                h, None, 3, depth_multiplier=1, stride=st, scope="Conv2d_%d_depthwise" % (i + 1)
            )
            h = slim.conv2d(h, c, 1, scope="Conv2d_%d_pointwise" % (i + 1))
        h = slim.dropout(tf.reduce_mean(h, [1, 2], keepdims=True), 0.9)
        logits = slim.conv2d(h, 10, 1, activation_fn=None, normalizer_fn=None, scope="logits")
        logits = tf.squeeze(logits, [1, 2])
tf.losses.sparse_softmax_cross_entropy(y, logits)
loss = tf.losses.get_total_loss()
op = slim.learning.create_train_op(loss, tf.train.RMSPropOptimizer(0.01, 0.9, 0.9, 1.0))
with tf.Session() as s:
    s.run(tf.global_variables_initializer())
    for i in range(14):
        v = s.run(op, {x: rng.rand(8, 32, 32, 3), y: rng.randint(0, 10, 8)})
        print("LOSS " + float(v).hex())
print("DONE")
