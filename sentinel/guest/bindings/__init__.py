# SPDX-License-Identifier: Apache-2.0
"""Bindings of the guest's Python to the Sentinel runtime, the page-access profiler and the kernel's NUMA calls."""
