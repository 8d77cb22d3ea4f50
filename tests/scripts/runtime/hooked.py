# SPDX-License-Identifier: Apache-2.0
"""A script with SentinelHook and marked layers."""

import os, warnings
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
warnings.filterwarnings("ignore")
import numpy, tensorflow as tf
from guest.bindings import runtime
from guest.bindings.hook import SentinelHook
hook = SentinelHook(profile="/root/hook.json", skip=1)
tf.set_random_seed(1)
h = x = tf.placeholder(tf.float32, [4, 64])
for n in range(3):
    h = runtime.add_layer(tf.layers.dense(h, 64, activation=tf.nn.relu))
loss = tf.reduce_sum(h * h)
train = tf.train.GradientDescentOptimizer(0.001).minimize(loss)
with tf.train.MonitoredSession(hooks=[hook]) as session:
    for step in range(4):
        session.run(train, {x: numpy.ones([4, 64])})
