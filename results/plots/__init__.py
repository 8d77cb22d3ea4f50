# SPDX-License-Identifier: Apache-2.0
"""All plots of results, and their colours."""
