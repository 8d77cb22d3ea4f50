# SPDX-License-Identifier: Apache-2.0
"""The thing under test, and `sentinel`, the program in front of every room (`sentinel.cli`).

Nothing is imported here: `sentinel.guest` also runs on the guest's python2.7.
"""
