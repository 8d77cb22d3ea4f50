# SPDX-License-Identifier: Apache-2.0
"""The runtime library for TensorFlow (C++), and its build."""
