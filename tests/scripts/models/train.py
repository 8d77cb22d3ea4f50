# SPDX-License-Identifier: Apache-2.0
"""Train models for two steps, twice with the same seed. argv has a JSON list of {"name", "parameters"}.

Print the losses of both trainings for each, as exact numbers in JSON.
"""

from __future__ import print_function

import json, os, sys, warnings
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
warnings.filterwarnings("ignore")
import numpy, tensorflow as tf
from guest import models
tf.logging.set_verbosity(tf.logging.ERROR)
config = tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)

def train(inputs, operations, loss):
    data = numpy.random.RandomState(7)
    losses = []
    with tf.Session(config=config) as session:
        session.run(tf.global_variables_initializer())
        for _ in range(2):
            feed = {placeholder: make(data) for placeholder, make in inputs}
            for operation in operations[:-1]:
                session.run(operation, feed)
            losses.append(float(session.run([operations[-1], loss], feed)[1]).hex())
    return losses

for model in json.loads(sys.argv[1]):
    tf.reset_default_graph()
    tf.set_random_seed(7)
    built = models.build(model["name"], model["parameters"])
    print(json.dumps([train(*built), train(*built)]))
    sys.stdout.flush()
