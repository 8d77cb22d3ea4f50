# SPDX-License-Identifier: Apache-2.0
"""Patched kernels: a source, a patch series and config fragments become a bzImage in the cache."""
