# SPDX-License-Identifier: Apache-2.0
"""The console: rules against recorded consoles, and reading a growing file."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

from testbed.guestlink import console
from testbed.guestlink.console import READY, Console, Finding, recognise

CONSOLES = Path(__file__).parent / "consoles"
RULES = [rule.name for rule, _ in console.rules()]
LOGS = sorted(path.stem for path in CONSOLES.glob("*.log"))
BAD_NEWS = [log for log in LOGS if not log.startswith("clean-")]

# The first finding of each recorded console, and its meaning.
EXPECTED = {
    "atomic-sleep-4.9": ("panic", "BUG: scheduling while atomic: cat/45/0x00000001"),
    "atomic-sleep-6.1": ("panic", "BUG: scheduling while atomic: cat/37/0x00000001"),
    "atomic-sleep-debug-4.9": (
        "panic",
        "BUG: sleeping function called from invalid context at mm/slab.h:408",
    ),
    "atomic-sleep-debug-6.1": (
        "panic",
        "BUG: sleeping function called from invalid context at include/linux/sched/mm.h:274",
    ),
    "bad-address-4.9": ("panic", "BUG: unable to handle kernel paging request at ffff8fff00001018"),
    "bad-address-6.1": ("panic", "BUG: unable to handle page fault for address: ffff8fff00001018"),
    "bad-page-4.9": ("panic", "BUG: Bad page state in process swapper/1  pfn:1d970"),
    "bad-page-6.1": ("panic", "BUG: Bad page state in process cat  pfn:02514"),
    "bug-4.9": (
        "panic",
        "BUG: Dentry ffff88001e816180{i=39,n=/}  still in use (1) [unmount of tmpfs tmpfs]",
    ),
    "bug-6.1": ("panic", "BUG: Dentry 0000000082962791{i=1,n=/}  still in use (1) [unmount of tmpfs tmpfs]"),
    "general-protection-4.9": ("panic", "general protection fault: 0000 [#1] SMP"),
    "general-protection-6.1": (
        "panic",
        "general protection fault, probably for non-canonical address 0xdead000000000118: 0000 [#1] SMP",
    ),
    "hard-lockup-4.9": ("panic", "Watchdog detected hard LOCKUP on cpu 0"),
    "hard-lockup-6.1": ("panic", "Watchdog detected hard LOCKUP on cpu 1"),
    "hung-task-4.9": ("hang", "INFO: task touch:55 blocked for more than 4 seconds."),
    "hung-task-6.1": ("hang", "INFO: task touch:44 blocked for more than 4 seconds."),
    "kasan-4.9": (
        "panic",
        "BUG: KASAN: slab-out-of-bounds in migrate_page_copy+0x1a5/0x2c0 at addr ffff88001d9afd38",
    ),
    "kasan-6.1": ("panic", "BUG: KASAN: use-after-free in folio_migrate_flags+0x43/0x4d0"),
    "kernel-bug-4.9": ("panic", "kernel BUG at /build/linux-4.9/fs/inode.c:1531!"),
    "kernel-bug-6.1": ("panic", "kernel BUG at fs/inode.c:1848!"),
    "null-dereference-4.9": (
        "panic",
        "BUG: unable to handle kernel NULL pointer dereference at 0000000000000018",
    ),
    "null-dereference-6.1": ("panic", "BUG: kernel NULL pointer dereference, address: 0000000000000018"),
    "oom-kill-4.9": ("workload", "Out of memory: Kill process 53 (python3) score 879 or sacrifice child"),
    "oom-kill-6.1": (
        "workload",
        "Out of memory: Killed process 42 (python3) total-vm:208720kB, anon-rss:195080kB, file-rss:4kB, "
        "shmem-rss:0kB, UID:0 pgtables:436kB oom_score_adj:0",
    ),
    "oom-kill-memcg-4.9": (
        "workload",
        "Memory cgroup out of memory: Kill process 56 (python3) score 988 or sacrifice child",
    ),
    "oom-kill-memcg-6.1": (
        "workload",
        "Memory cgroup out of memory: Killed process 45 (python3) total-vm:77616kB, anon-rss:64924kB, "
        "file-rss:1540kB, shmem-rss:0kB, UID:0 pgtables:180kB oom_score_adj:0",
    ),
    "oom-panic-4.9": ("panic", "Out of memory: system-wide panic_on_oom is enabled"),
    "oom-panic-6.1": ("panic", "Out of memory: system-wide panic_on_oom is enabled"),
    "oom-panic-nobody-4.9": ("panic", "Out of memory and no killable processes..."),
    "oom-panic-nobody-6.1": ("panic", "System is deadlocked on memory"),
    "oops-4.9": ("panic", "invalid opcode: 0000 [#1] SMP"),
    "oops-6.1": ("panic", "divide error: 0000 [#1] SMP"),
    "panic-4.9": ("panic", "Attempted to kill init! exitcode=0x00000300"),
    "panic-6.1": ("panic", "sysrq triggered crash"),
    "rcu-stall-4.9": ("hang", "INFO: rcu_sched self-detected stall on CPU"),
    "rcu-stall-6.1": ("hang", "INFO: rcu_sched self-detected stall on CPU"),
    "root-missing-4.9": ("panic", 'VFS: Cannot open root device "vdz1" or unknown-block(0,0): error -6'),
    "root-missing-6.1": ("panic", 'VFS: Cannot open root device "vdz1" or unknown-block(0,0): error -6'),
    "segfault-4.9": (
        "workload",
        "python3[53]: segfault at 0 ip 00007f312230d3d9 sp 00007ffde668fd28 error 4 in "
        "libc-2.31.so[7f31221d2000+159000]",
    ),
    "segfault-6.1": (
        "workload",
        "python3[43]: segfault at 0 ip 00007fccce8563d9 sp 00007ffe14079b28 error 4 in "
        "libc-2.31.so[7fccce71b000+159000] likely on CPU 0 (core 0, socket 0)",
    ),
    "soft-lockup-4.9": ("hang", "BUG: soft lockup - CPU#0 stuck for 22s! [cat:54]"),
    "soft-lockup-6.1": ("hang", "BUG: soft lockup - CPU#1 stuck for 22s! [cat:44]"),
    "user-trap-4.9": ("workload", "traps: python3[53] trap invalid opcode ip:7fdc6e038000"),
    "user-trap-6.1": ("workload", "traps: python3[42] trap invalid opcode ip:7f77963e8000"),
}


def read(log: str) -> Console:
    guest_console = Console(CONSOLES / f"{log}.log")
    guest_console.poll()
    return guest_console


def rule_of(log: str) -> str:
    """The rule a log is named after: the longest that its name begins with."""
    return max((rule for rule in RULES if log.startswith(f"{rule}-")), key=len, default="")


@pytest.mark.parametrize("log", BAD_NEWS)
def test_recorded_console_matches_its_rule(log: str) -> None:
    first = read(log).findings[0]
    means, quote = EXPECTED[log]
    assert first.rule == rule_of(log)
    assert first.means == means
    assert first.quote.startswith(quote)
    text = (CONSOLES / f"{log}.log").read_text().splitlines()
    assert first.quote in text[first.line - 1]
    assert first.line > 1, "there are clean lines first"


def test_every_recorded_console_is_tested() -> None:
    assert set(EXPECTED) == set(BAD_NEWS)
    assert len(LOGS) - len(BAD_NEWS) == 2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kernel", ["4.9", "6.1"])
def test_every_rule_has_a_console_of_both_kernels(rule: str, kernel: str) -> None:
    assert [log for log in BAD_NEWS if rule_of(log) == rule and log.endswith(kernel)]


@pytest.mark.parametrize("kernel", ["4.9", "6.1"])
def test_clean_boot_has_no_finding_and_is_ready(kernel: str) -> None:
    clean = read(f"clean-{kernel}")
    assert clean.findings == []
    assert clean.ready
    assert clean.lines > 150


@pytest.mark.parametrize("log", BAD_NEWS)
def test_lines_before_the_failure_match_no_rule(log: str) -> None:
    lines = (CONSOLES / f"{log}.log").read_text().splitlines()
    first = read(log).findings[0].line
    assert [line for line in lines[: first - 1] if recognise(line)] == []


@pytest.mark.parametrize(
    "line",
    [
        "[    1.0] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 33s!",
        "[    1.0] python3 invoked oom-killer: gfp_mask=0x0(), order=0, oom_score_adj=0",
        "[    1.0] oom_reaper: reaped process 53 (python3), now anon-rss:0kB",
        "[    1.0] DEBUG: this is no trouble",
        "[    1.0] WARNING: CPU: 0 PID: 54 at fs/dcache.c:1436 umount_check+0x48/0x50",
        "[    1.0] Kernel command line: oops=panic panic=-1 softlockup_panic=1",
        "[    1.0] NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.",
        "[    1.0] VFS: Mounted root (ext4 filesystem) on device 254:0.",
        "INIT: Entering runlevel: 2",
        "",
    ],
)
def test_harmless_lines_match_no_rule(line: str) -> None:
    assert recognise(line) is None


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-...D }", "rcu-stall"),
        ("INFO: rcu_sched detected stalls on CPUs/tasks:", "rcu-stall"),
        ("Out of memory (oom_kill_allocating_task): Killed process 42 (python3) total-vm:1kB", "oom-kill"),
        ("BUG: unable to handle kernel NULL pointer dereference at           (null)", "null-dereference"),
        ("BUG: Bad rss-counter state mm:0 type:MM_ANONPAGES val:1", "bad-page"),
        ("BUG: Bad page map in process cat  pte:00000000 pmd:00000000", "bad-page"),
        ("BUG: spinlock bad magic on CPU#0, cat/42", "bug"),
        ("stack segment: 0000 [#1] SMP", "oops"),
        ("Oops: 0002 [#1] PREEMPT SMP KASAN PTI", "oops"),
        ("traps: a[43] general protection ip:7f error:0", "user-trap"),
        ("Kernel panic - not syncing: Hard LOCKUP", "panic"),
        ("Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", "panic"),
    ],
)
def test_variants_of_messages_match(line: str, rule: str) -> None:
    finding = recognise(f"[    4.2] {line}", 7)
    assert finding is not None
    assert (finding.rule, finding.line) == (rule, 7)


def test_every_rule_has_a_quote_and_a_unique_name() -> None:
    assert len(set(RULES)) == len(RULES)
    for rule, pattern in console.rules():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)
        assert pattern.groupindex.keys() == {"quote"}


def test_missing_console_is_empty(tmp_path: Path) -> None:
    guest_console = Console(tmp_path / "console.log")
    assert guest_console.poll() == []
    assert (guest_console.lines, guest_console.findings, guest_console.ready) == (0, [], False)
    (tmp_path / "console.log").write_text("first\n")
    assert guest_console.poll() == ["first"]


def test_poll_returns_each_complete_line_once(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    guest_console = Console(path)
    with path.open("ab", buffering=0) as f:
        f.write(b"one\ntw")
        assert guest_console.poll() == ["one"]
        f.write(b"o\nKernel panic - not sync")
        assert guest_console.poll() == ["two"]
        assert guest_console.poll() == []
        assert guest_console.findings == []
        f.write(b"ing: split\n")
        assert guest_console.poll() == ["Kernel panic - not syncing: split"]
    assert guest_console.findings == [Finding("panic", "panic", "split", 3)]
    assert guest_console.lines == 3


def test_escapes_and_invalid_bytes_are_cleaned(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"\x1b[2J\x1b[1;31mred\x1b[0m\r\n\xff\xfe\n" + f"x{READY}\r\n".encode())
    guest_console = Console(path)
    assert guest_console.poll() == ["red", "\ufffd\ufffd", f"x{READY}"]
    assert guest_console.ready


def test_character_split_between_reads_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    guest_console = Console(path)
    with path.open("ab", buffering=0) as f:
        f.write("é".encode()[:1])
        guest_console.poll()
        f.write("é".encode()[1:] + b"\n")
    assert guest_console.poll() == ["é"]


def test_first_selects_by_meaning(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_text(
        "a[1]: segfault at 0\nBUG: soft lockup - CPU#0\nOops: 0000 [#1]\nKernel panic - not syncing: x\n"
    )
    guest_console = Console(path)
    guest_console.poll()
    assert [f.means for f in guest_console.findings] == ["workload", "hang", "panic", "panic"]
    for meaning, rule in (("workload", "segfault"), ("hang", "soft-lockup"), ("panic", "oops")):
        first = guest_console.first(meaning)  # type: ignore[arg-type]
        assert first is not None
        assert first.rule == rule
    either = guest_console.first("panic", "workload")
    assert either is not None
    assert either.rule == "segfault"
    assert Console(path).first("panic") is None


def test_last_output_is_the_time_of_the_last_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    path = tmp_path / "console.log"
    guest_console = Console(path)
    path.write_text("one\n")
    now[0] = 105.0
    guest_console.poll()
    now[0] = 110.0
    guest_console.poll()
    assert guest_console.last_output == 105.0


def test_follow_ends_with_the_machine_and_misses_no_line(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_text("one\n")
    polls = 0

    def ended() -> bool:
        nonlocal polls
        polls += 1
        if polls == 2:
            with path.open("a") as f:
                f.write("two\n")
        if polls == 3:  # the machine ends after its last line
            with path.open("a") as f:
                f.write("three\n")
        return polls == 3

    assert list(console.follow(path, until_ended=ended, pause=0)) == ["one", "two", "three"]


def test_follow_yields_lines_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    over = threading.Event()
    lines = console.follow(path, until_ended=over.is_set, pause=0.001)
    for word in ("one", "two"):
        with path.open("a") as f:
            f.write(f"{word}{os.linesep}")
        assert next(lines) == word
    over.set()
    assert list(lines) == []
