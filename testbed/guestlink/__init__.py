# SPDX-License-Identifier: Apache-2.0
"""The link to a running guest: SSH, console, watchdog."""
