# SPDX-License-Identifier: Apache-2.0
"""Real machines that suites run on: this host, or another one over SSH."""
