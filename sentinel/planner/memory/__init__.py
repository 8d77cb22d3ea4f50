# SPDX-License-Identifier: Apache-2.0
"""Classes of tensors, the reserved pool, and the units of the arena."""
