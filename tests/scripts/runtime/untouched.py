# SPDX-License-Identifier: Apache-2.0
"""A training script that does not use the runtime."""

import os, sys, warnings
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
warnings.filterwarnings("ignore")
import numpy, tensorflow as tf
from guest.models import cnn
tf.logging.set_verbosity(tf.logging.ERROR)
tf.set_random_seed(1)
inputs, train, loss = cnn.build(8)
data = numpy.random.RandomState(1)
feed = {placeholder: make(data) for placeholder, make in inputs}
with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)) as s:
    s.run(tf.global_variables_initializer())
    for step in range(int(sys.argv[1])):
        _, value = s.run([train, loss], feed)
        s.run(loss, feed)
        print(float(value).hex())
