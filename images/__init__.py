# SPDX-License-Identifier: Apache-2.0
"""The guest disk: Debian 11 with TensorFlow 1.13.1, as an ext4 image in the cache."""
