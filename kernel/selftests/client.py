# SPDX-License-Identifier: GPL-2.0-only
"""The profiler's Python client on a real kernel, as root, under python2.7 and python3: prints TAP.

    python3 client.py [FOLDER]

FOLDER holds page_profile.py; else it is searched beside this file.
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


def ok(passed, what):
    """A test point."""
    _results.append(bool(passed))
    print(("ok " if passed else "not ok ") + str(len(_results)) + " - " + what)
    sys.stdout.flush()  # or a forked child might print it again


def same(got, expected, what):
    """A test point about two values."""
    passed = got == expected
    ok(passed, what if passed else what + ": got " + repr(got) + ", expected " + repr(expected))


def fails(code, what, call, *arguments):
    """A test point about a call that must raise OSError with errno `code`."""
    try:
        call(*arguments)
    except OSError as e:
        same(errno.errorcode.get(e.errno), errno.errorcode[code], what)
        return
    ok(False, what + ": it succeeded")


class Memory:
    """Small pages of private anonymous memory, an x at the start of each."""

    def __init__(self):
        self._map = mmap.mmap(-1, N * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.length = N * PAGE
        _libc.madvise(ctypes.c_void_p(self.address), ctypes.c_size_t(self.length), MADV_NOHUGEPAGE)
        self.write_each()

    def read(self, page):
        """One byte, without touching any other page."""
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


def in_child(work):
    """Fork a child that does `work` and exits with 0, or 1 if that raised; returns its process ID."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def status_of(pid):
    return os.waitpid(pid, 0)[1]


def adds_up(profile, counted, what):
    """Nothing is lost and nothing counted twice: every fault is in one counter, or accounted for."""
    s = profile.stats()
    total = sum(counted.reads()) + sum(counted.writes())
    ok(
        s.lost == 0 and total == s.user_faults + s.kernel_faults - s.uncounted,
        what + ": counters add up to the faults (" + str(total) + "; " + str(s) + ")",
    )


def epochs():
    memory = Memory()
    with page_profile.Profile() as profile:
        counted = profile.add(memory.address, memory.length)
        same(counted.pages, N, "epoch: a range has pages")
        same(counted.counts(), N * [(0, 0)], "epoch: nothing is counted before the start")
        profile.start()
        for _ in range(3):
            memory.read_each()
        same(counted.counts(), N * [(1, 0)], "epoch: three reads of a page count once")
        memory.write_each()
        same(counted.counts(), N * [(1, 0)], "epoch: a write after them does not count")
        profile.rearm()
        memory.write_each()
        memory.read_each()
        same(counted.counts(), N * [(1, 1)], "epoch: re-armed, a write counts, a read after it does not")
        profile.rearm()
        memory.read(3)
        same(list(counted.reads()), [1, 1, 1, 2, 1, 1, 1, 1], "epoch: reads alone")
        same(list(counted.writes()), N * [1], "epoch: writes alone")
        same(len(counted.raw()), 8 * N, "epoch: eight bytes a page")
        same((profile.stats().epochs, profile.stats().rearmed), (2, 2 * N), "epoch: re-armings are counted")
        adds_up(profile, counted, "epoch")

        before = counted.counts()
        profile.stop()
        memory.read_each()
        memory.write_each()
        same(counted.counts(), before, "stopped: nothing counts")
        profile.reset()
        same(counted.counts(), N * [(0, 0)], "reset: counters are zero")
        same(sum(profile.stats()), 0, "reset: so are statistics")
        profile.start()
        memory.write_each()
        same(counted.counts(), N * [(0, 1)], "started again: it counts")
    counted.close()
    ok(memory.intact(), "epoch: data are intact")


def windows():
    memory = Memory()
    with page_profile.Profile(mode="window", window=1) as profile:
        counted = profile.add(memory.address, memory.length)
        profile.start()
        for _ in range(5):
            memory.read(0)
        same(counted.counts()[0], (1, 0), "window of one: a page read again and again counts once")
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
    same(first.counts(), N * [(1, 0)], "remove: the counters stay readable, and as they were")
    fails(errno.ENOENT, "remove: twice", profile.remove, first)
    second = profile.add(memory.address, memory.length)
    memory.write_each()
    same(second.counts(), N * [(0, 1)], "remove: added again the pages have new counters")
    same(first.counts(), N * [(1, 0)], "remove: and the old ones stay")
    profile.clear()
    memory.read_each()
    same(second.counts(), N * [(0, 1)], "clear: nothing counts")
    fails(errno.ENOENT, "clear: the range is gone", profile.remove, second)
    third = profile.add(memory.address, memory.length)
    profile.start()
    memory.write_each()
    profile.close()
    memory.read_each()
    same(third.counts(), N * [(0, 1)], "close: counters stay readable, and nothing counts")
    same(profile.fileno(), -1, "close: there is no descriptor")
    profile.close()
    fails(errno.EBADF, "close: the profile cannot be used", profile.start)
    for counted in first, second, third:
        counted.close()
    try:
        third.counts()
    except ValueError:
        ok(True, "close: a closed range cannot be read")
    else:
        ok(False, "close: a closed range was read")
    ok(memory.intact(), "close: data are intact")


def mistakes():
    memory = Memory()
    with page_profile.Profile() as profile, page_profile.Profile() as other:
        fails(errno.EINVAL, "mistake: no page's address", profile.add, memory.address + 1, PAGE)
        fails(errno.EINVAL, "mistake: no whole pages", profile.add, memory.address, PAGE - 1)
        fails(errno.EINVAL, "mistake: start without a range", profile.start)
        counted = profile.add(memory.address, PAGE)
        fails(errno.EEXIST, "mistake: the same again", profile.add, memory.address, PAGE)
        fails(errno.EBUSY, "mistake: a second profile of the process", other.add, memory.address + PAGE, PAGE)
        fails(errno.EINVAL, "mistake: re-arm before start", profile.rearm)
        counted.close()
    fails(errno.EINVAL, "mistake: too large a window", page_profile.Profile, "window", 65)
    fails(errno.EINVAL, "mistake: a window for epochs", page_profile.Profile, "epoch", 1)
    fails(errno.ESRCH, "mistake: no such process", page_profile.Profile, "epoch", 0, 1 << 30)
    try:
        page_profile.Profile("mode")
    except ValueError:
        ok(True, "mistake: an unknown mode")
    else:
        ok(False, "mistake: an unknown mode: it succeeded")


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

    same(status_of(in_child(as_nobody)), 0, "privilege: it says who may not profile another's process")


def another_process():
    """A child touches its copy of our memory, each page once for each byte that we send it."""
    memory = Memory()
    orders, order = os.pipe()
    answers, answer = os.pipe()

    def obey():
        os.close(order)
        os.close(answers)
        while os.read(orders, 1):
            memory.read_each()
            os.write(answer, b"x")
        if not memory.intact():
            raise RuntimeError("the child's data changed")

    child = in_child(obey)
    os.close(orders)
    os.close(answer)
    with page_profile.Profile(mode="window", window=2, pid=child) as profile:
        counted = profile.add(memory.address, memory.length)
        profile.start()
        for _ in range(10):
            os.write(order, b"x")
            os.read(answers, 1)
        same(counted.counts(), N * [(10, 0)], "another process: its accesses count")
        memory.read_each()
        memory.write_each()
        same(counted.counts(), N * [(10, 0)], "another process: ours do not")
        adds_up(profile, counted, "another process")
        os.close(order)
        same(status_of(child), 0, "another process: its data are intact, and it ends well")
        same(counted.counts(), N * [(11, 0)], "another process: its counters can be read after its end")
        fails(errno.ESRCH, "another process: stop when it is gone", profile.stop)
    os.close(answers)
    counted.close()


def heirs():
    """A forked child has a copy of the descriptor: that neither ends the profile nor keeps it."""
    memory = Memory()
    profile = page_profile.Profile()
    counted = profile.add(memory.address, memory.length)
    profile.start()
    same(status_of(in_child(profile.close)), 0, "heir: a child closes its copy")
    memory.write_each()
    same(counted.counts(), N * [(0, 1)], "heir: that does not end our profile")

    until, end = os.pipe()

    def wait():
        os.close(end)
        os.read(until, 1)
        os.fstat(profile.fileno())  # it is there indeed

    child = in_child(wait)
    os.close(until)
    profile.close()
    memory.read_each()
    memory.write_each()
    same(counted.counts(), N * [(0, 1)], "heir: after our close nothing counts, whoever has a copy")
    with page_profile.Profile() as other:
        again = other.add(memory.address, memory.length)
        other.start()
        memory.read_each()
        same(again.counts(), N * [(1, 0)], "heir: and another profile can have the process")
    again.close()
    os.close(end)
    same(status_of(child), 0, "heir: the child had the descriptor all the time")
    counted.close()
    ok(memory.intact(), "heir: data are intact")


def main():
    try:
        for test in epochs, windows, removing, mistakes, privilege, another_process, heirs:
            test()
    except page_profile.Unavailable as e:
        print("Bail out! " + str(e))
        return 1
    print("1.." + str(len(_results)))
    return 0 if all(_results) else 1


if __name__ == "__main__":
    sys.exit(main())
