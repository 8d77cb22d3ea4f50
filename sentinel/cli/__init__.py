# SPDX-License-Identifier: Apache-2.0
"""The command-line program: composes the rooms, and nothing imports it."""
