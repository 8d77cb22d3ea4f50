# SPDX-License-Identifier: Apache-2.0
"""Slow memory that is slow: a model of caches, nodes and CPUs, run along with the guest by a QEMU plugin."""
