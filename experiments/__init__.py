# SPDX-License-Identifier: Apache-2.0
"""Suites become cells, cells become runs on a guest, runs become records."""
