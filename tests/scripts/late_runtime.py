# SPDX-License-Identifier: Apache-2.0
# a session exists before the runtime is loaded (misuse, by hand)
import tensorflow as tf

s = tf.Session()
print(s.run(tf.constant(1)))
from guest.bindings import runtime

try:
    runtime.load()
except Exception as e:
    print("%s: %s" % (type(e).__name__, e))
print("DONE")
