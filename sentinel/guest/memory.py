# SPDX-License-Identifier: Apache-2.0
"""Memory policy of this process, and where its pages are. Linux, x86-64; python2.7 and 3.

Errors are OSError with the errno of the system call.
"""

from __future__ import absolute_import, division, print_function

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_SET_MEMPOLICY = 238  # x86-64 system call numbers
_MIGRATE_PAGES = 256
_MOVE_PAGES = 279
_MPOL_MF_MOVE = 2
_PAGE = 4096
_MPOL = {"default": 0, "bind": 2, "interleave": 3}  # linux/mempolicy.h

# placement -> (kernel policy, nodes); node 0 is the fast tier, node 1 the slow one
PLACEMENTS = {
    "fast-only": ("bind", [0]),
    "slow-only": ("bind", [1]),
    "first-touch": ("default", []),
    "interleave": ("interleave", [0, 1]),
    "sentinel": ("default", []),  # the runtime sees to the tensors
    "published": ("default", []),
}


def _mask(nodes):
    return ctypes.c_ulong(sum(1 << n for n in nodes))


def _call(number, *arguments):
    if _libc.syscall(ctypes.c_long(number), *arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def set_policy(policy, nodes):
    """set_mempolicy(2) for the calling thread and every thread it starts from now on."""
    mask = _mask(nodes)
    size = ctypes.c_ulong(8 * ctypes.sizeof(mask) + 1 if nodes else 0)  # in bits; the kernel takes one off
    _call(_SET_MEMPOLICY, ctypes.c_int(_MPOL[policy]), ctypes.byref(mask) if nodes else None, size)


def move_all(to):
    """migrate_pages(2): move what this process already has to node `to`, from every other node."""
    others, target = _mask([n for n in range(8) if n != to]), _mask([to])
    size = ctypes.c_ulong(8 * ctypes.sizeof(target) + 1)
    _call(_MIGRATE_PAGES, ctypes.c_int(0), size, ctypes.byref(others), ctypes.byref(target))


def spread_all(nodes):
    """move_pages(2): spread what this process already has over `nodes`, page by page.

    (mbind with MPOL_MF_MOVE would not: it leaves a page that is on any of the nodes where it is.)
    """
    with open("/proc/self/maps") as f:
        mappings = [line.split() for line in f]
    for words in mappings:
        if words[1].startswith("---") or words[-1] in ("[vvar]", "[vdso]", "[vsyscall]"):
            continue
        start, end = (int(x, 16) for x in words[0].split("-"))
        count = (end - start) // _PAGE
        pages = (ctypes.c_void_p * count)(*range(start, end, _PAGE))
        wanted = (ctypes.c_int * count)(*(nodes[(a // _PAGE) % len(nodes)] for a in range(start, end, _PAGE)))
        status = (ctypes.c_int * count)()  # says -ENOENT of pages that are not there, which is fine
        flags = ctypes.c_int(_MPOL_MF_MOVE)
        _call(_MOVE_PAGES, ctypes.c_int(0), ctypes.c_ulong(count), pages, wanted, status, flags)


def place(placement):
    """Apply a placement to this process: the policy for what it will allocate, and what it has already.

    What it has moves too, so that all is as under `numactl --membind` or `--interleave` from the start.
    """
    policy, nodes = PLACEMENTS[placement]
    if policy == "interleave":
        spread_all(nodes)
    set_policy(policy, nodes)
    if policy == "bind":
        move_all(nodes[0])


def residency():
    """Bytes of this process on each node, from numa_maps: {"anon": {"0": n, ...}, "file": {...}}."""
    total = {"anon": {}, "file": {}}
    with open("/proc/self/numa_maps") as f:
        for line in f:
            words = line.split()
            kind = "file" if any(w.startswith("file=") for w in words) else "anon"
            page = next((int(w[18:]) << 10 for w in words if w.startswith("kernelpagesize_kB=")), 4096)
            for w in words:
                if w[0] == "N" and "=" in w and w[1].isdigit():
                    node, pages = w[1:].split("=")
                    total[kind][node] = total[kind].get(node, 0) + int(pages) * page
    return total


def vmstat():
    """The counters of /proc/vmstat that tell of placement, faults and migration."""
    wanted = ("numa_", "pgmigrate_", "pgfault", "pgmajfault", "pgpromote_", "pgdemote_", "pgalloc_", "thp_")
    with open("/proc/vmstat") as f:
        pairs = (line.split() for line in f)
        return {name: int(value) for name, value in pairs if name.startswith(wanted)}
