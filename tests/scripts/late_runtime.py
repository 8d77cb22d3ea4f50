# SPDX-License-Identifier: Apache-2.0
# Loads the runtime too late, after a session exists
import tensorflow as tf

s = tf.Session()
print(s.run(tf.constant(1)))
from guest.bindings import runtime

try:
    runtime.load()
except Exception as e:
    print("%s: %s" % (type(e).__name__, e))
print("DONE")
