# SPDX-License-Identifier: Apache-2.0
# Runs of a monitored session fail: the data set ends twice, and one feed has the wrong shape
import numpy as np
import tensorflow as tf
from guest.bindings.hook import SentinelHook

hooks = [SentinelHook(profile="/root/failing.json", skip=4)]  # before tf.data, which allocates at once
tf.set_random_seed(1)
data = tf.data.Dataset.from_tensor_slices(np.random.RandomState(0).rand(48, 64).astype("float32")).batch(8)
iterator = data.make_initializable_iterator()
x = iterator.get_next()
h = tf.layers.dense(x, 128, activation=tf.nn.relu)
loss = tf.reduce_mean(tf.square(tf.layers.dense(h, 64) - x))
train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
config = tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)
with tf.train.MonitoredSession(tf.train.ChiefSessionCreator(config=config), hooks=hooks) as session:
    initialize = lambda step_context: step_context.session.run(iterator.initializer)  # noqa: E731
    for epoch in range(3):
        session.run_step_fn(initialize)
        try:
            while True:
                print("LOSS " + float(session.run([train, loss])[1]).hex())
        except tf.errors.OutOfRangeError:
            pass
        try:
            session.run([train, loss], {x: np.ones([8, 63])})
        except (ValueError, tf.errors.InvalidArgumentError):
            pass
print("DONE")
