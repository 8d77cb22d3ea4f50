# SPDX-License-Identifier: Apache-2.0
"""Markers for the timing model, and its clock. Linux, x86-64; python2.7 and 3.

    import timing_client

    timing_client.region_begin()
    for step in range(10):
        timing_client.step_begin()
        started = timing_client.now_ns()
        train()
        print(timing_client.now_ns() - started)
        timing_client.step_end()
    timing_client.region_end()

A marker is an instruction that does nothing; the timing model sees it go by. So all of this is harmless
anywhere else, where `now_ns` is CLOCK_MONOTONIC.
"""

from __future__ import absolute_import, division, print_function

import ctypes
import glob
import mmap
import os
import struct
import threading

# What testbed/timing/markers.h defines
REGION_BEGIN, REGION_END, STEP_BEGIN, STEP_END, SERIAL_BEGIN, SERIAL_END = range(1, 7)
PAGE_MIGRATED, CLOCK, OBSERVE, PAGES, PROCESS, PROCESS_END = range(7, 13)
LAYER, USER = 0x1000, 0x8000
_MAGIC = 0x5344524B434F4C43
_CPUS = 64
_DILATION = 8 + 8 * _CPUS  # where it is in the page; `needed` and `behind` follow

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
_functions = {}


class _Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]


def monotonic_ns():
    """CLOCK_MONOTONIC (python2.7 has no such function)."""
    t = _Timespec()
    _libc.clock_gettime(1, ctypes.byref(t))
    return t.tv_sec * 10**9 + t.tv_nsec


def code(number):
    """The marker `number` as machine code: nopl 0x534e0000+number(%rax,%rax,1); ret."""
    return b"\x0f\x1f\x84\x00" + struct.pack("<H", number) + b"\x4e\x53" + b"\xc3"


def mark(number):
    """Execute the marker with this number."""
    if number not in _functions:
        text = code(number)
        page = _libc.mmap(None, mmap.PAGESIZE, 3, 0x22, -1, 0)  # read and write; private, anonymous
        if page in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "mmap: " + os.strerror(ctypes.get_errno()))
        ctypes.memmove(page, text, len(text))
        if _libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), 5):  # read and execute
            raise OSError(ctypes.get_errno(), "mprotect: " + os.strerror(ctypes.get_errno()))
        _functions[number] = ctypes.CFUNCTYPE(None)(page)
    _functions[number]()


def region_begin():
    """The model runs from here on; before, the guest is not slowed down."""
    mark(REGION_BEGIN)


def region_end():
    mark(REGION_END)


class Region(object):
    """A region that begins when it is first needed, and ends once: `begin` may be called for every step.

    A child of the process leaves it alone.
    """

    def __init__(self):
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._begun = False

    def begin(self):
        with self._lock:
            if not self._begun and os.getpid() == self._pid:
                self._begun = True
                region_begin()

    def end(self):
        with self._lock:
            if self._begun and os.getpid() == self._pid:
                self._begun = False
                region_end()


def step_begin():
    mark(STEP_BEGIN)


def step_end():
    mark(STEP_END)


def layer(number):
    """Layer `number` begins; 0 to 4095."""
    if not 0 <= number < 0x1000:
        raise ValueError("layers are 0 to 4095, not %r" % (number,))
    mark(LAYER + number)


def user(number):
    """A marker of your own; 0 to 32767."""
    if not 0 <= number < 0x8000:
        raise ValueError("markers are 0 to 32767, not %r" % (number,))
    mark(USER + number)


def observe():
    """Count this process's accesses by page, exactly, from here on; what was counted before is forgotten."""
    mark(OBSERVE)


def pages():
    """Have the counts by page written to a file `pages-N.csv` beside the model's counters."""
    mark(PAGES)


def _open_page():
    """The page of model clocks: the memory of an ivshmem device. None if there is no timing model."""
    for device in glob.glob("/sys/bus/pci/devices/*"):
        try:
            with open(device + "/vendor") as vendor, open(device + "/device") as kind:
                if (vendor.read().strip(), kind.read().strip()) != ("0x1af4", "0x1110"):
                    continue
            with open(device + "/enable", "w") as enable:
                enable.write("1")
            with open(device + "/resource2", "r+b") as memory:
                page = mmap.mmap(memory.fileno(), mmap.PAGESIZE, mmap.MAP_SHARED)
        except EnvironmentError:
            continue
        if struct.unpack_from("<Q", page)[0] == _MAGIC:
            return page
    return None


_page = _open_page()


def modelled():
    """Whether there is a model clock."""
    return _page is not None


def pace(dilation):
    """Ask for `dilation` real ns for each model ns in the next regions; 0 is synchronised."""
    if modelled():
        struct.pack_into("<d", _page, _DILATION, dilation)


def host():
    """(The dilation this host sustains, by all regions since the last paced one; the share of its time for
    which it was behind in the last region).
    """
    return struct.unpack_from("<2d", _page, _DILATION + 8) if modelled() else (1.0, 0.0)


def compute():
    """Stay on the vCPU that computes (the others help), with all threads that are started from here on."""
    if modelled():
        mask = ctypes.c_ulong(1)
        if _libc.sched_setaffinity(0, ctypes.c_size_t(ctypes.sizeof(mask)), ctypes.byref(mask)):
            raise OSError(ctypes.get_errno(), "sched_setaffinity: " + os.strerror(ctypes.get_errno()))


def now_ns():
    """The model clock of this vCPU in ns; CLOCK_MONOTONIC where there is no model."""
    if _page is None:
        return monotonic_ns()
    mark(CLOCK)
    cpu = _libc.sched_getcpu() % _CPUS
    return struct.unpack_from("<Q", _page, 8 + 8 * cpu)[0]
