# SPDX-License-Identifier: Apache-2.0
"""What runs inside the guest, on its python2.7. Copied there as a folder; it imports nothing from outside."""
