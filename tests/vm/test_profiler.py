# SPDX-License-Identifier: Apache-2.0
"""The page-access profiler in real guests: its own test programs, which print TAP, on every kernel.

With --slow also on debug kernels, which check their locks, sleeping, memory and page tables themselves, and
on kernels whose user mode has page tables of its own. The stress tests last as long as --stress says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments import boot
from kernel.config import DEFAULT
from testbed import machine, vm
from testbed.guestlink.ssh import Shell
from testbed.vm import Vm

TAP = re.compile(r"(?P<not>not )?ok \d+ - (?P<what>.*?)(?: # SKIP (?P<why>.*))?")
COMPLAINT = re.compile(
    r".*(?:BUG: (?!workqueue lockup|soft lockup)|WARNING: |Oops|KASAN|deadlock|suspicious RCU|Bad page).*"
)
FLAVOURS = {
    "default": DEFAULT,
    "debug": (*DEFAULT, "debug"),
    "mitigations": (*DEFAULT, "mitigations"),
}


@pytest.fixture(scope="module", params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name != "default" and not request.config.getoption("--slow"):
        pytest.skip("builds another kernel; run with --slow")
    return name


@pytest.fixture(scope="module")
def guest(kernel: str, flavour: str, programs: Path) -> Iterator[Vm]:
    spec = machine.load("two-node").model_copy(
        update={"cmdline": "pti=on" if flavour == "mitigations" else ""}
    )
    made = boot.prepare(spec, kernel=kernel, flavour=FLAVOURS[flavour])
    if flavour == "mitigations" and "\nCONFIG_PAGE_TABLE_ISOLATION=y" not in made.kernel.config.read_text():
        pytest.skip(f"Linux {made.kernel.release} has no page tables of its own for user mode")
    with vm.running("profiler", made.boot) as started:
        started.wait_ready()
        with started.shell() as connected:
            connected.put(programs, "/opt/selftests")
        yield started


@pytest.fixture
def shell(guest: Vm, flavour: str) -> Iterator[Shell]:
    """A shell in the guest, whose kernel must not complain of itself meanwhile."""
    with guest.shell() as connected:
        yield connected
        if flavour == "debug":
            locks = connected.run("cat /proc/lockdep_stats").out
            assert re.search(r"debug_locks:\s+1$", locks, re.MULTILINE), (
                "the lock checker has turned itself off"
            )
    guest.watchdog().check()
    said = guest.console_path.read_text(errors="replace")
    assert "page_profile: bit 51" in said, "the profiler did not say at boot that it is there"
    assert flavour != "mitigations" or "page tables isolation: enabled" in said
    assert COMPLAINT.findall(said) == []


def points(shell: Shell, command: str, *, subtests: pytest.Subtests, timeout: float = 900) -> list[str]:
    """Run a program that prints TAP, each of its test points one of ours; returns its other lines."""
    said: list[str] = []
    result = shell.run(f"cd /opt/selftests && {command}", check=False, timeout=timeout, on_line=said.append)
    made, planned = 0, None
    rest: list[str] = []
    for line in said:
        if point := TAP.fullmatch(line):
            made += 1
            with subtests.test(msg=point["what"]):
                if point["why"]:
                    pytest.skip(point["why"])
                assert not point["not"], "\n".join(rest)
        elif line.startswith("1.."):
            planned = int(line[3:])
        else:
            rest.append(line)
    assert planned == made > 0, f"{command} ended early:\n" + "\n".join([*said[-5:], result.err])
    assert result.code == 0 or any(line.startswith("not ok") for line in said), result.err
    return rest


@pytest.mark.parametrize("program", ["api", "counts", "limits", "memory", "process"])
def test_it_does_what_its_documentation_says(program: str, shell: Shell, subtests: pytest.Subtests) -> None:
    points(shell, f"./{program}", subtests=subtests)


@pytest.mark.parametrize("python", ["python2.7", "python3"])
def test_its_python_client(python: str, shell: Shell, subtests: pytest.Subtests) -> None:
    points(shell, f"{python} -B client.py", subtests=subtests)


@pytest.mark.parametrize("program", ["fuzz", "stress"])
def test_it_survives(
    program: str, shell: Shell, subtests: pytest.Subtests, request: pytest.FixtureRequest
) -> None:
    seconds: float = request.config.getoption("--stress")
    rest = points(shell, f"./{program} {seconds} 7", subtests=subtests, timeout=600 + 10 * seconds)
    print("\n".join(rest))


def test_a_profiled_program_computes_the_same(shell: Shell) -> None:
    """stress-ng checks its own data."""
    for stressor in ("--vm 1 --vm-bytes 16M --verify", "--mmap 1 --mmap-bytes 8M --verify", "--numa 1"):
        said = shell.run(
            f"/opt/selftests/profiled -w 8 stress-ng {stressor} --timeout 5 2>&1", timeout=600
        ).out
        assert "successful run" in said, said
        counted = re.search(r"(\d+) caught accesses", said)
        assert counted is not None, said
        assert int(counted[1]) > 0, said


def test_counts_follow_the_truth(shell: Shell, subtests: pytest.Subtests) -> None:
    """Where accesses are known, counts are what a model of the window says."""
    for line in shell.run("/opt/selftests/accuracy 7", timeout=900).out.splitlines():
        record = json.loads(line)
        with subtests.test(**{key: record[key] for key in ("pattern", "window")}):
            assert record["error"] == 0


def test_a_processor_without_the_reserved_bit_is_refused(kernel: str, programs: Path) -> None:
    spec = machine.load("two-node").model_copy(update={"address_bits": 52})
    with vm.running("wide", boot.prepare(spec, kernel=kernel).boot) as started:
        started.wait_ready()
        with started.shell() as connected:
            connected.put(programs, "/opt/selftests")
            said = connected.run("/opt/selftests/counts", check=False)
            client = connected.run("cd /opt/selftests && python3 -B client.py", check=False)
        assert "page_profile: off: bit 51 is not reserved with 52 physical address bits" in (
            started.console_path.read_text()
        )
    assert "Bail out! page_profile_open: No such device" in said.out
    assert "Bail out! " in client.out
    assert "this processor cannot do it" in client.out
