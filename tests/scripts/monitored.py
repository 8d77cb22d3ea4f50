# SPDX-License-Identifier: Apache-2.0
# MonitoredTrainingSession with hooks and a checkpoint_dir (summaries, checkpoints, step counter), and averages
import shutil
import tempfile

import tensorflow as tf

tf.set_random_seed(1)
gs = tf.train.get_or_create_global_step()
x = tf.random_uniform([16, 16, 16, 3], seed=2)
y = tf.random_uniform([16], maxval=10, dtype=tf.int32, seed=3)
h = tf.layers.conv2d(x, 16, 3, activation=tf.nn.relu)
h = tf.layers.max_pooling2d(h, 2, 2)
h = tf.nn.lrn(h, 4)
h = tf.layers.conv2d(h, 16, 3, activation=tf.nn.relu)
h = tf.layers.dense(tf.layers.flatten(h), 64, activation=tf.nn.relu)
loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=tf.layers.dense(h, 10)))
tf.summary.scalar("loss", loss)
tf.summary.histogram("h", h)
lr = tf.train.exponential_decay(0.1, gs, 10, 0.9, staircase=True)
apply_op = tf.train.GradientDescentOptimizer(lr).minimize(loss, global_step=gs)
with tf.control_dependencies([apply_op]):
    train_op = tf.train.ExponentialMovingAverage(0.99, gs).apply(tf.trainable_variables())


class Log(tf.train.SessionRunHook):
    def before_run(self, c):
        return tf.train.SessionRunArgs(loss)

    def after_run(self, c, v):
        print("LOSS " + float(v.results).hex())


d = tempfile.mkdtemp()
cfg = tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)
with tf.train.MonitoredTrainingSession(
    checkpoint_dir=d,
    hooks=[tf.train.StopAtStepHook(last_step=12), tf.train.NanTensorHook(loss), Log()],
    config=cfg,
    save_summaries_steps=4,
    save_checkpoint_secs=None,
    save_checkpoint_steps=6,
    log_step_count_steps=10,
) as s:
    while not s.should_stop():
        s.run(train_op)
shutil.rmtree(d)
print("DONE")
