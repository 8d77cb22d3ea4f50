# SPDX-License-Identifier: Apache-2.0
"""Virtual machines: start, find, control and end them.

Each machine has a supervisor, a process that owns its libvirt domain (`testbed.vm.supervisor`).
"""

from testbed.vm.boot import Boot, SavedVm
from testbed.vm.folder import vms_root
from testbed.vm.handle import Vm
from testbed.vm.launch import preview, running, start
from testbed.vm.reaping import reap
from testbed.vm.store import all_vms, find, find_running

__all__ = [
    "Boot",
    "SavedVm",
    "Vm",
    "all_vms",
    "find",
    "find_running",
    "preview",
    "reap",
    "running",
    "start",
    "vms_root",
]
