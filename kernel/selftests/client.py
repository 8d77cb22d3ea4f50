# SPDX-License-Identifier: GPL-2.0-only
"""Test the profiler's Python client, under python2.7 and python3, as root in a guest. Prints TAP.

    python3 client.py [FOLDER]

FOLDER contains page_profile.py; default: the folder of this file.
"""

import ctypes
import errno
import mmap
import os
import sys
import traceback

if len(sys.argv) > 1:
    sys.path.insert(0, sys.argv[1])

import page_profile

N = 8  # pages of each test
PAGE = mmap.PAGESIZE
MADV_NOHUGEPAGE = 15
_libc = ctypes.CDLL(None)
_results = []


def ok(passed, name):
    """Report a test point."""
    _results.append(bool(passed))
    print(("ok " if passed else "not ok ") + str(len(_results)) + " - " + name)
    sys.stdout.flush()  # before a fork, which would duplicate the buffer


def same(actual, expected, name):
    """Report a test point that compares two values."""
    passed = actual == expected
    ok(passed, name if passed else name + ": got " + repr(actual) + ", expected " + repr(expected))


def fails(code, name, call, *arguments):
    """Report a test point: the call raises OSError with errno `code`."""
    try:
        call(*arguments)
    except OSError as e:
        same(errno.errorcode.get(e.errno), errno.errorcode[code], name)
        return
    ok(False, name + ": it succeeded")


class Memory:
    """Small pages of private anonymous memory, each starting with an x."""

    def __init__(self):
        self._map = mmap.mmap(-1, N * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.length = N * PAGE
        _libc.madvise(ctypes.c_void_p(self.address), ctypes.c_size_t(self.length), MADV_NOHUGEPAGE)
        self.write_each()

    def read(self, page):
        """Read one byte of a page."""
        return self._map[page * PAGE : page * PAGE + 1]

    def write(self, page):
        self._map[page * PAGE : page * PAGE + 1] = b"x"

    def read_each(self):
        return b"".join(self.read(page) for page in range(N))

    def write_each(self):
        for page in range(N):
            self.write(page)

    def intact(self):
        return self.read_each() == N * b"x"


def in_child(function):
    """Run `function` in a child, which exits with 0, or with 1 if it raises. Returns the process ID."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def status_of(pid):
    return os.waitpid(pid, 0)[1]


def adds_up(profile, counted, name):
    """Report a test point: the counters add up to the caught accesses, and no access was lost."""
    s = profile.stats()
    total = sum(counted.reads()) + sum(counted.writes())
    ok(
        s.lost == 0 and total == s.user_faults + s.kernel_faults - s.uncounted,
        name + ": counters add up to the faults (" + str(total) + "; " + str(s) + ")",
    )


def epochs():
    memory = Memory()
    with page_profile.Profile() as profile:
        counted = profile.add(memory.address, memory.length)
        same(counted.pages, N, "epoch: the range has N pages")
        same(counted.counts(), N * [(0, 0)], "epoch: no access counts before the start")
        profile.start()
        for _ in range(3):
            memory.read_each()
        same(counted.counts(), N * [(1, 0)], "epoch: three reads of a page count once")
        memory.write_each()
        same(counted.counts(), N * [(1, 0)], "epoch: a write after a read does not count")
        profile.rearm()
        memory.write_each()
        memory.read_each()
        same(
            counted.counts(),
            N * [(1, 1)],
            "epoch: after re-arming, a write counts and a read does not",
        )
        profile.rearm()
        memory.read(3)
        same(list(counted.reads()), [1, 1, 1, 2, 1, 1, 1, 1], "epoch: reads()")
        same(list(counted.writes()), N * [1], "epoch: writes()")
        same(len(counted.raw()), 8 * N, "epoch: raw() has eight bytes per page")
        same((profile.stats().epochs, profile.stats().rearmed), (2, 2 * N), "epoch: re-armings are counted")
        adds_up(profile, counted, "epoch")

        before = counted.counts()
        profile.stop()
        memory.read_each()
        memory.write_each()
        same(counted.counts(), before, "stop: no access counts")
        profile.reset()
        same(counted.counts(), N * [(0, 0)], "reset: counters are zero")
        same(sum(profile.stats()), 0, "reset: statistics are zero")
        profile.start()
        memory.write_each()
        same(counted.counts(), N * [(0, 1)], "start: accesses count again")
    counted.close()
    ok(memory.intact(), "epoch: data are intact")


def windows():
    memory = Memory()
    with page_profile.Profile(mode="window", window=1) as profile:
        counted = profile.add(memory.address, memory.length)
        profile.start()
        for _ in range(5):
            memory.read(0)
        same(counted.counts()[0], (1, 0), "window of one: repeated reads of a page count once")
        for _ in range(20):
            memory.read(1)
            memory.write(2)
        same(counted.counts()[1:3], [(20, 0), (0, 20)], "window of one: alternating pages count each time")
        ok(profile.stats().evictions >= 40, "window of one: evictions are counted")
        adds_up(profile, counted, "window of one")
    counted.close()


def removing():
    memory = Memory()
    profile = page_profile.Profile()
    first = profile.add(memory.address, memory.length)
    profile.start()
    memory.read_each()
    profile.remove(first)
    profile.rearm()
    memory.write_each()
    same(first.counts(), N * [(1, 0)], "remove: counters stay readable and unchanged")
    fails(errno.ENOENT, "remove: a range twice", profile.remove, first)
    second = profile.add(memory.address, memory.length)
    memory.write_each()
    same(second.counts(), N * [(0, 1)], "add: a removed range has new counters")
    same(first.counts(), N * [(1, 0)], "add: the old counters are unchanged")
    profile.clear()
    memory.read_each()
    same(second.counts(), N * [(0, 1)], "clear: no access counts")
    fails(errno.ENOENT, "clear: the range is gone", profile.remove, second)
    third = profile.add(memory.address, memory.length)
    profile.start()
    memory.write_each()
    profile.close()
    memory.read_each()
    same(third.counts(), N * [(0, 1)], "close: counters stay readable and unchanged")
    same(profile.fileno(), -1, "close: fileno() is -1")
    profile.close()
    fails(errno.EBADF, "close: start fails", profile.start)
    for counted in first, second, third:
        counted.close()
    try:
        third.counts()
    except ValueError:
        ok(True, "close: a closed range cannot be read")
    else:
        ok(False, "close: a closed range was read")
    ok(memory.intact(), "close: data are intact")


def errors():
    memory = Memory()
    with page_profile.Profile() as profile, page_profile.Profile() as other:
        fails(errno.EINVAL, "error: an unaligned address", profile.add, memory.address + 1, PAGE)
        fails(errno.EINVAL, "error: an unaligned length", profile.add, memory.address, PAGE - 1)
        fails(errno.EINVAL, "error: start without a range", profile.start)
        counted = profile.add(memory.address, PAGE)
        fails(errno.EEXIST, "error: the same range again", profile.add, memory.address, PAGE)
        fails(errno.EBUSY, "error: a second profile of the process", other.add, memory.address + PAGE, PAGE)
        fails(errno.EINVAL, "error: re-arm before start", profile.rearm)
        counted.close()
    fails(errno.EINVAL, "error: a window of 65 pages", page_profile.Profile, "window", 65)
    fails(errno.EINVAL, "error: a window in epoch mode", page_profile.Profile, "epoch", 1)
    fails(errno.ESRCH, "error: no such process", page_profile.Profile, "epoch", 0, 1 << 30)
    try:
        page_profile.Profile("mode")
    except ValueError:
        ok(True, "error: an unknown mode")
    else:
        ok(False, "error: an unknown mode: it succeeded")


def privilege():
    def as_nobody():
        os.setgid(65534)
        os.setuid(65534)
        try:
            page_profile.Profile(pid=1).close()
        except page_profile.Unavailable as e:
            if e.errno == errno.EPERM:
                return
            raise
        raise RuntimeError("a user could profile init")

    same(status_of(in_child(as_nobody)), 0, "privilege: a user may not profile init")


def another_process():
    """Profile a child, which reads each page once for each byte it receives."""
    memory = Memory()
    requests, request = os.pipe()
    replies, reply = os.pipe()

    def serve():
        os.close(request)
        os.close(replies)
        while os.read(requests, 1):
            memory.read_each()
            os.write(reply, b"x")
        if not memory.intact():
            raise RuntimeError("the child's data changed")

    child = in_child(serve)
    os.close(requests)
    os.close(reply)
    with page_profile.Profile(mode="window", window=2, pid=child) as profile:
        counted = profile.add(memory.address, memory.length)
        profile.start()
        for _ in range(10):
            os.write(request, b"x")
            os.read(replies, 1)
        same(counted.counts(), N * [(10, 0)], "another process: its accesses are counted")
        memory.read_each()
        memory.write_each()
        same(counted.counts(), N * [(10, 0)], "another process: the caller's accesses are not counted")
        adds_up(profile, counted, "another process")
        os.close(request)
        same(status_of(child), 0, "another process: its data are intact, and it exits with 0")
        same(counted.counts(), N * [(11, 0)], "another process: counters are readable after its exit")
        fails(errno.ESRCH, "another process: stop after its exit", profile.stop)
    os.close(replies)
    counted.close()


def inherited_descriptors():
    """A child's copy of the descriptor neither ends the profile nor keeps it running."""
    memory = Memory()
    profile = page_profile.Profile()
    counted = profile.add(memory.address, memory.length)
    profile.start()
    same(status_of(in_child(profile.close)), 0, "inherited descriptor: a child closes its copy")
    memory.write_each()
    same(counted.counts(), N * [(0, 1)], "inherited descriptor: closing it does not end the profile")

    until, end = os.pipe()

    def wait():
        os.close(end)
        os.read(until, 1)
        os.fstat(profile.fileno())  # still open

    child = in_child(wait)
    os.close(until)
    profile.close()
    memory.read_each()
    memory.write_each()
    same(counted.counts(), N * [(0, 1)], "inherited descriptor: the parent's close ends the profile")
    with page_profile.Profile() as other:
        again = other.add(memory.address, memory.length)
        other.start()
        memory.read_each()
        same(again.counts(), N * [(1, 0)], "inherited descriptor: another profile can bind the process")
    again.close()
    os.close(end)
    same(status_of(child), 0, "inherited descriptor: the child kept its copy open")
    counted.close()
    ok(memory.intact(), "inherited descriptor: data are intact")


def main():
    try:
        for test in epochs, windows, removing, errors, privilege, another_process, inherited_descriptors:
            test()
    except page_profile.Unavailable as e:
        print("Bail out! " + str(e))
        return 1
    print("1.." + str(len(_results)))
    return 0 if all(_results) else 1


if __name__ == "__main__":
    sys.exit(main())
