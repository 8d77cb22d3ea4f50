# SPDX-License-Identifier: Apache-2.0
# tf.keras compile() and fit()
import numpy as np
import tensorflow as tf

tf.set_random_seed(1)
m = tf.keras.Sequential([tf.keras.layers.Dense(64, input_shape=(64,))])
m.compile("sgd", "mse")
h = m.fit(np.ones([128, 64]), np.ones([128, 64]), batch_size=8, epochs=1, shuffle=False, verbose=0)
print("LOSS " + float(h.history["loss"][0]).hex())
print("DONE")
