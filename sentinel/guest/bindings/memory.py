# SPDX-License-Identifier: Apache-2.0
"""The process's NUMA memory policy and residency, and kernel settings. Linux on x86-64; python2.7 and 3.

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
_MPOL = {"default": 0, "preferred": 1, "bind": 2, "interleave": 3}  # linux/mempolicy.h
_NODES = 8  # more than any machine of a suite has


def _mask(nodes):
    return ctypes.c_ulong(sum(1 << n for n in nodes))


def _call(number, *arguments):
    if _libc.syscall(ctypes.c_long(number), *arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def set_policy(policy, nodes):
    """Set the memory policy of this thread and of threads that it starts: set_mempolicy(2)."""
    mask = _mask(nodes)
    size = ctypes.c_ulong(8 * ctypes.sizeof(mask) + 1 if nodes else 0)  # bits; the kernel subtracts one
    _call(_SET_MEMPOLICY, ctypes.c_int(_MPOL[policy]), ctypes.byref(mask) if nodes else None, size)


def move_all(to):
    """Migrate all pages of this process to node `to`: migrate_pages(2)."""
    others, target = _mask([n for n in range(_NODES) if n != to]), _mask([to])
    size = ctypes.c_ulong(8 * ctypes.sizeof(target) + 1)
    _call(_MIGRATE_PAGES, ctypes.c_int(0), size, ctypes.byref(others), ctypes.byref(target))


def spread_all(nodes):
    """Spread all pages of this process over `nodes` in turn: move_pages(2).

    mbind(2) with MPOL_MF_MOVE is no substitute: it does not move a page that is on any of the nodes.
    """
    with open("/proc/self/maps") as f:
        mappings = [line.split() for line in f]
    for words in mappings:
        if words[1].startswith("---") or words[-1] in ("[vvar]", "[vdso]", "[vsyscall]"):
            continue
        start, end = (int(x, 16) for x in words[0].split("-"))
        count = (end - start) // _PAGE
        pages = (ctypes.c_void_p * count)(*range(start, end, _PAGE))
        targets = (ctypes.c_int * count)(
            *(nodes[(address // _PAGE) % len(nodes)] for address in range(start, end, _PAGE))
        )
        status = (ctypes.c_int * count)()  # -ENOENT for pages that are not resident, which is not an error
        flags = ctypes.c_int(_MPOL_MF_MOVE)
        _call(_MOVE_PAGES, ctypes.c_int(0), ctypes.c_ulong(count), pages, targets, status, flags)


def place(policy, nodes):
    """Apply a memory policy to future allocations, and migrate existing pages accordingly.

    The result is the same as under `numactl --membind` or `--interleave` from the start.
    """
    if policy == "interleave":
        spread_all(nodes)
    set_policy(policy, nodes)
    if policy == "bind":
        move_all(nodes[0])


def set_sysctls(values):
    """Write kernel settings, such as {"kernel.numa_balancing": "1"}."""
    for name, value in sorted(values.items()):
        with open("/proc/sys/" + name.replace(".", "/"), "w") as f:
            f.write(value)


def residency():
    """Return this process's bytes on each node, from numa_maps: {"anon": {"0": n, ...}, "file": {...}}."""
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
    """Return the counters of /proc/vmstat about placement, faults and migration."""
    prefixes = ("numa_", "pgmigrate_", "pgfault", "pgmajfault", "pgpromote_", "pgdemote_", "pgalloc_", "thp_")
    with open("/proc/vmstat") as f:
        pairs = (line.split() for line in f)
        return {name: int(value) for name, value in pairs if name.startswith(prefixes)}
