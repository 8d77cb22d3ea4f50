# SPDX-License-Identifier: Apache-2.0
"""The machine: host checks, libvirt domain, NUMA nodes, console, watchdog and SSH."""
