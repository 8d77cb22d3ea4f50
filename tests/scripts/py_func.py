# SPDX-License-Identifier: Apache-2.0
# A py_func within the step, which runs a session of its own on every call
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
rng = np.random.RandomState(0)
config = tf.ConfigProto(
    inter_op_parallelism_threads=1,
    intra_op_parallelism_threads=1,
    use_per_session_threads=True,  # the inner run needs a thread while the outer one waits for it
)
inner = tf.Graph()
with inner.as_default():
    scale = tf.get_variable("scale", initializer=1.0)
    given = tf.placeholder(tf.float32, [16, 64])
    train_inner = tf.train.GradientDescentOptimizer(1e-3).minimize(tf.reduce_mean(given) * scale)
    start = tf.global_variables_initializer()
inside = tf.Session(graph=inner, config=config)
inside.run(start)


def noise(value):
    inside.run(train_inner, {given: value})
    return value * inside.run(scale)


x = tf.placeholder(tf.float32, [16, 64])
changed = tf.py_func(noise, [x], tf.float32)
changed.set_shape([16, 64])
h = tf.layers.dense(tf.layers.dense(changed, 256, tf.nn.relu), 256)
loss = tf.reduce_mean(tf.square(h - 1))
op = tf.train.GradientDescentOptimizer(0.05).minimize(loss)
with tf.Session(config=config) as s:
    s.run(tf.global_variables_initializer())
    for i in range(16):
        print("LOSS " + float(s.run([op, loss], {x: rng.rand(16, 64)})[1]).hex())
print("DONE")
