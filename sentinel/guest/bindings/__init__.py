# SPDX-License-Identifier: Apache-2.0
"""Python bindings to the Sentinel runtime, the page-access profiler and the kernel's NUMA calls."""
