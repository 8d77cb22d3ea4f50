# SPDX-License-Identifier: Apache-2.0
"""Plots of reports and calibrations, and the colours of all plots."""
