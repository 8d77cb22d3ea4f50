# SPDX-License-Identifier: Apache-2.0
"""Print the trainable parameters of models: argv has a JSON list of {"name", "parameters", "without"}.

Only the forward passes are built: optimisers add no trainable variables, and take most of the time.
"""

from __future__ import print_function

import json, os, sys, warnings
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
warnings.filterwarnings("ignore")
import numpy, tensorflow as tf
from guest import models
tf.logging.set_verbosity(tf.logging.ERROR)

class Built(Exception):
    pass

def stop(*arguments, **options):
    raise Built

tf.gradients = tf.train.Optimizer.compute_gradients = stop
for model in json.loads(sys.argv[1]):
    tf.reset_default_graph()
    try:
        models.build(model["name"], model["parameters"])
    except Built:
        pass
    variables = [v for v in tf.trainable_variables() if v.name.split("/")[0] not in model["without"]]
    print(sum(int(numpy.prod(v.shape.as_list())) for v in variables))
    sys.stdout.flush()
