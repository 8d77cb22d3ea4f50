# SPDX-License-Identifier: Apache-2.0
"""Page-access profiles of a process: a client of page_profile(4). Linux, x86-64; python2.7 and 3.

    from guest.bindings import page_profile

    with page_profile.Profile(mode="window", window=8) as profile:
        arena = profile.add(address, length)
        profile.start()
        work()
        profile.stop()
        print(arena.counts()[0], profile.stats().lost)

With numpy, one row per page: numpy.frombuffer(arena.raw(), "u4").reshape(-1, 2)

Errors are OSError with the errno and the name of the failed call, or `Unavailable` if the profiler is missing
or not permitted.
"""

from __future__ import absolute_import, division, print_function

import array
import collections
import ctypes
import errno
import mmap
import os

_libc = ctypes.CDLL(None, use_errno=True)
_CLOEXEC = 0o2000000  # python2.7's os has no O_CLOEXEC

# Values of linux/page_profile.h

DEVICE = "/dev/page_profile"
MODES = {"epoch": 0, "window": 1}


class _Config(ctypes.Structure):
    _fields_ = [("mode", ctypes.c_uint32), ("window", ctypes.c_uint32)]


class _Range(ctypes.Structure):
    _fields_ = [("start", ctypes.c_uint64), ("length", ctypes.c_uint64), ("offset", ctypes.c_uint64)]


class _Count(ctypes.Structure):
    _fields_ = [("reads", ctypes.c_uint32), ("writes", ctypes.c_uint32)]


Stats = collections.namedtuple(
    "Stats", "user_faults kernel_faults uncounted passed armed epochs rearmed evictions lost"
)


class _Stats(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in Stats._fields]


_WRITE, _READ = 1, 2


def _ioc(direction, number, argument=None):
    """Return _IOC() of linux/ioctl.h for x86."""
    size = ctypes.sizeof(argument) if argument else 0
    return direction << 30 | size << 16 | 0xBC << 8 | number


IOCTLS = {
    "PAGE_PROFILE_TARGET": _ioc(_WRITE, 0x00, ctypes.c_int32),
    "PAGE_PROFILE_CONFIGURE": _ioc(_WRITE, 0x01, _Config),
    "PAGE_PROFILE_ADD": _ioc(_WRITE | _READ, 0x02, _Range),
    "PAGE_PROFILE_REMOVE": _ioc(_WRITE, 0x03, _Range),
    "PAGE_PROFILE_START": _ioc(0, 0x04),
    "PAGE_PROFILE_STOP": _ioc(0, 0x05),
    "PAGE_PROFILE_REARM": _ioc(0, 0x06),
    "PAGE_PROFILE_RESET": _ioc(0, 0x07),
    "PAGE_PROFILE_STATS": _ioc(_READ, 0x08, _Stats),
    "PAGE_PROFILE_CLEAR": _ioc(0, 0x09),
}

_HINTS = {
    (DEVICE, errno.ENOENT): "no %s: boot a kernel built with the page-access profiler (sentinel kernel build)"
    % DEVICE,
    (DEVICE, errno.ENODEV): "this processor is not supported: the profiler needs one with at most 51 physical"
    " address bits (dmesg | grep page_profile says more)",
    (DEVICE, errno.EPERM): "only root may profile: vm.page_profile_restrict is 1",
    (DEVICE, errno.EACCES): "no permission to open %s: ask the administrator to change its mode" % DEVICE,
    ("PAGE_PROFILE_TARGET", errno.EPERM): "no permission to profile that process: it takes permission"
    " to trace it (the same user, or root)",
}


class Unavailable(OSError):
    """The profiler is missing or not permitted. The message names a remedy."""


def _error(call, code):
    if (call, code) in _HINTS:
        return Unavailable(code, _HINTS[call, code])
    return OSError(code, "%s: %s" % (call, os.strerror(code)))


class Range(object):
    """Counters of a range of pages, created by `Profile.add`. `address` and `length` are in bytes.

    Counters wrap at 2^32. They stay readable after the range is removed and the profile closed, until
    `close`. Until then the range holds a file descriptor.
    """

    def __init__(self, address, length, counters):
        self.address = address
        self.length = length
        self.pages = length // mmap.PAGESIZE
        self._counters = counters

    def raw(self):
        """Return the current counters as bytes: two 32-bit numbers per page, reads and writes."""
        return self._counters[:]

    def _numbers(self):
        return array.array("I", self.raw())

    def counts(self):
        """Return (reads, writes) for each page."""
        numbers = self._numbers()
        return list(zip(numbers[::2], numbers[1::2]))

    def reads(self):
        """Return an array of the pages' reads."""
        return self._numbers()[::2]

    def writes(self):
        """Return an array of the pages' writes."""
        return self._numbers()[1::2]

    def close(self):
        """Release the counters. Reading them raises ValueError from now on."""
        self._counters.close()


class Profile(object):
    """A profile of this process, or of process `pid`. `window` is in pages and for that mode only."""

    def __init__(self, mode="epoch", window=0, pid=None):
        if mode not in MODES:
            raise ValueError("unknown mode %r; the modes are %s" % (mode, ", ".join(sorted(MODES))))
        self._owner = os.getpid()
        try:
            self._fd = os.open(DEVICE, os.O_RDWR | _CLOEXEC)
        except OSError as e:
            raise _error(DEVICE, e.errno)
        try:
            if pid is not None:
                self._control("PAGE_PROFILE_TARGET", ctypes.c_int32(pid))
            self._control("PAGE_PROFILE_CONFIGURE", _Config(MODES[mode], window))
        except Exception:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _control(self, command, argument=None):
        pointer = None if argument is None else ctypes.byref(argument)
        if _libc.ioctl(self._fd, ctypes.c_ulong(IOCTLS[command]), pointer) < 0:
            raise _error(command, ctypes.get_errno())

    def fileno(self):
        """Return the descriptor; -1 after `close`."""
        return self._fd

    def add(self, address, length):
        """Profile [address, address + length): whole pages of private anonymous memory. Returns a Range."""
        requested = _Range(address, length)
        self._control("PAGE_PROFILE_ADD", requested)
        size = length // mmap.PAGESIZE * ctypes.sizeof(_Count)
        try:
            counters = mmap.mmap(self._fd, size, mmap.MAP_SHARED, mmap.PROT_READ, offset=requested.offset)
        except EnvironmentError as e:  # python2's mmap.error is not an OSError
            self._control("PAGE_PROFILE_REMOVE", requested)
            raise _error("mmap", e.errno)
        return Range(address, length, counters)

    def remove(self, range):
        """Stop profiling a range."""
        self._control("PAGE_PROFILE_REMOVE", _Range(range.address, range.length))

    def start(self):
        """Start counting."""
        self._control("PAGE_PROFILE_START")

    def stop(self):
        """Stop counting."""
        self._control("PAGE_PROFILE_STOP")

    def rearm(self):
        """Begin an epoch: the next access to each page counts."""
        self._control("PAGE_PROFILE_REARM")

    def reset(self):
        """Set counters and statistics to zero."""
        self._control("PAGE_PROFILE_RESET")

    def stats(self):
        """Return the statistics since the profile was created or reset; see linux/page_profile.h."""
        stats = _Stats()
        self._control("PAGE_PROFILE_STATS", stats)
        return Stats(*(int(getattr(stats, name)) for name in Stats._fields))

    def clear(self):
        """Stop counting and remove all ranges."""
        self._control("PAGE_PROFILE_CLEAR")

    def close(self):
        """End the profile.

        Clears it first, since children and ranges hold copies of the descriptor. In a child, `close` does not
        affect the profile, which belongs to the parent.
        """
        if self._fd < 0:
            return
        try:
            if os.getpid() == self._owner:
                self.clear()
        finally:
            os.close(self._fd)
            self._fd = -1
