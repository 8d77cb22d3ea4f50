# SPDX-License-Identifier: Apache-2.0
"""Markers and the clock of the timing model. Linux on x86-64; python2.7 and 3.

    import timing_client

    timing_client.region_begin()
    for step in range(10):
        timing_client.step_begin()
        started = timing_client.now_ns()
        train()
        print(timing_client.now_ns() - started)
        timing_client.step_end()
    timing_client.region_end()

A marker is a NOP that the timing model recognises. Without a timing model markers have no effect, and
`now_ns` is CLOCK_MONOTONIC.
"""

from __future__ import absolute_import, division, print_function

import ctypes
import glob
import mmap
import os
import struct
import threading

# Values of testbed/timing/markers.h
REGION_BEGIN, REGION_END, STEP_BEGIN, STEP_END, SERIAL_BEGIN, SERIAL_END = range(1, 7)
PAGE_MIGRATED, CLOCK, OBSERVE, PAGES, PROCESS, PROCESS_END = range(7, 13)
TRACE_BEGIN, TRACE_END, TRACE_EVENT, TRACE_PAUSE, TRACE_RESUME = range(13, 18)
REMAPPED = 18  # has an argument: sentinel_markers.h
LAYER, USER = 0x1000, 0x8000
_MAGIC = 0x5344524B434F4C43
_CPUS = 64
_DILATION = 8 + 8 * _CPUS  # offset in the page; `needed` and `behind` follow

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
_functions = {}


class _Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]


# With SENTINEL_CLOCK=cpu, as in the runtime, the processor time of the process takes its place.
_CLOCK = 2 if os.environ.get("SENTINEL_CLOCK") == "cpu" else 1


def monotonic_ns():
    """Return CLOCK_MONOTONIC, which python2.7 lacks."""
    t = _Timespec()
    _libc.clock_gettime(_CLOCK, ctypes.byref(t))
    return t.tv_sec * 10**9 + t.tv_nsec


def code(number):
    """Return the marker `number` as machine code: nopl 0x534e0000+number(%rax,%rax,1); ret."""
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
    """Begin a region of interest: the timing model runs within it only."""
    mark(REGION_BEGIN)


def region_end():
    """End the region of interest."""
    mark(REGION_END)


class Region(object):
    """A region of interest of this process, which `begin` opens at most once. It has no effect in a child."""

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
    """Begin a step."""
    mark(STEP_BEGIN)


def step_end():
    """End a step."""
    mark(STEP_END)


def layer(number):
    """Begin layer `number`, 0 to 4095."""
    if not 0 <= number < 0x1000:
        raise ValueError("a layer must be 0 to 4095, not %r" % (number,))
    mark(LAYER + number)


def user(number):
    """Execute a user-defined marker, 0 to 32767."""
    if not 0 <= number < 0x8000:
        raise ValueError("a marker must be 0 to 32767, not %r" % (number,))
    mark(USER + number)


def observe():
    """Start counting this process's accesses by page, exactly. Earlier counts are discarded."""
    mark(OBSERVE)


def pages():
    """Write the counts by page to a file `pages-N.csv` next to the model's counters."""
    mark(PAGES)


def trace_begin():
    """Start a trace of the compute vCPU's memory accesses, for sentinel/replay."""
    mark(TRACE_BEGIN)


def trace_end():
    """End the trace: it is in a file `trace-N.gz` next to the model's counters."""
    mark(TRACE_END)


def _open_page():
    """Map the page of model clocks, the memory of an ivshmem device. Returns None without a timing model."""
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
    """Return whether this machine has a model clock."""
    return _page is not None


def pace(dilation):
    """Request `dilation` real ns per model ns in the next regions; 0 means synchronised."""
    if modelled():
        struct.pack_into("<d", _page, _DILATION, dilation)


def host():
    """Return (dilation, share): the dilation that this host sustained in all regions since the last paced
    one, and the share of time in which the last region was behind.
    """
    return struct.unpack_from("<2d", _page, _DILATION + 8) if modelled() else (1.0, 0.0)


def _bind(cpus):
    mask = ctypes.c_ulong(cpus)
    if _libc.sched_setaffinity(0, ctypes.c_size_t(ctypes.sizeof(mask)), ctypes.byref(mask)):
        raise OSError(ctypes.get_errno(), "sched_setaffinity: " + os.strerror(ctypes.get_errno()))


def compute():
    """Bind this thread, and threads that it starts from now on, to the compute vCPU."""
    if modelled():
        _bind(1)


def assist():
    """Bind this thread, and threads that it starts from now on, to the other vCPUs, if there are any."""
    others = (1 << min(os.sysconf("SC_NPROCESSORS_ONLN"), _CPUS)) - 2
    if modelled() and others:
        _bind(others)


def now_ns():
    """Return the model clock of this vCPU in ns, or CLOCK_MONOTONIC without a timing model."""
    if _page is None:
        return monotonic_ns()
    mark(CLOCK)
    cpu = _libc.sched_getcpu() % _CPUS
    return struct.unpack_from("<Q", _page, 8 + 8 * cpu)[0]
