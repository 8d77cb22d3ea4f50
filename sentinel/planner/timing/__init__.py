# SPDX-License-Identifier: Apache-2.0
"""The cost model, and the predicted timeline of a step."""
