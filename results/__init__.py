# SPDX-License-Identifier: Apache-2.0
"""Records become tables, ratios, plots and verdicts."""
