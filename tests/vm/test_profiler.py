# SPDX-License-Identifier: Apache-2.0
"""Run the page-access profiler's selftests, which print TAP, in guests with every kernel.

With --slow also on debug kernels, which check locks, sleeping, memory and page tables, and on kernels with
separate page tables for user mode. --stress sets the duration of the stress tests.
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
from testbed.guestlink.shell import Shell
from testbed.vm import Vm

TAP = re.compile(r"(?P<not>not )?ok \d+ - (?P<name>.*?)(?: # SKIP (?P<reason>.*))?")
WARNING = re.compile(
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
    artifacts = boot.prepare(spec, kernel=kernel, flavour=FLAVOURS[flavour])
    if (
        flavour == "mitigations"
        and "\nCONFIG_PAGE_TABLE_ISOLATION=y" not in artifacts.kernel.config.read_text()
    ):
        pytest.skip(f"Linux {artifacts.kernel.release} does not support page-table isolation")
    with vm.running("profiler", artifacts.boot) as started:
        started.wait_ready()
        with started.shell() as connected:
            connected.put(programs, "/opt/selftests")
        yield started


@pytest.fixture
def shell(guest: Vm, flavour: str) -> Iterator[Shell]:
    """Return a shell in the guest. Fails if the kernel logs a warning during the test."""
    with guest.shell() as connected:
        yield connected
        if flavour == "debug":
            locks = connected.run("cat /proc/lockdep_stats").out
            assert re.search(r"debug_locks:\s+1$", locks, re.MULTILINE), "lockdep has disabled itself"
    guest.watchdog().check()
    console = guest.console_path.read_text(errors="replace")
    assert "page_profile: bit 51" in console, "the profiler did not report itself at boot"
    assert flavour != "mitigations" or "page tables isolation: enabled" in console
    assert WARNING.findall(console) == []


def points(shell: Shell, command: str, *, subtests: pytest.Subtests, timeout: float = 900) -> list[str]:
    """Run a program that prints TAP, with each test point as a subtest. Return its other lines."""
    lines: list[str] = []
    result = shell.run(f"cd /opt/selftests && {command}", check=False, timeout=timeout, on_line=lines.append)
    n_points, planned = 0, None
    rest: list[str] = []
    for line in lines:
        if point := TAP.fullmatch(line):
            n_points += 1
            with subtests.test(msg=point["name"]):
                if point["reason"]:
                    pytest.skip(point["reason"])
                assert not point["not"], "\n".join(rest)
        elif line.startswith("1.."):
            planned = int(line[3:])
        else:
            rest.append(line)
    assert planned == n_points > 0, f"{command} ended early:\n" + "\n".join([*lines[-5:], result.err])
    assert result.code == 0 or any(line.startswith("not ok") for line in lines), result.err
    return rest


@pytest.mark.parametrize(
    "program",
    (
        *("api", "limits", "counts", "instructions", "threads"),
        *("memory", "frames", "bypass", "process", "debugging"),
    ),
)
def test_the_profiler_behaves_as_documented(program: str, shell: Shell, subtests: pytest.Subtests) -> None:
    points(shell, f"./{program}", subtests=subtests)


@pytest.mark.parametrize("python", ["python2.7", "python3"])
def test_the_python_client_behaves_as_documented(
    python: str, shell: Shell, subtests: pytest.Subtests
) -> None:
    points(shell, f"{python} -B client.py", subtests=subtests)


@pytest.mark.parametrize("program", ["fuzz", "stress"])
def test_the_profiler_survives(
    program: str, shell: Shell, subtests: pytest.Subtests, request: pytest.FixtureRequest
) -> None:
    seconds: float = request.config.getoption("--stress")
    rest = points(shell, f"./{program} {seconds} 7", subtests=subtests, timeout=600 + 10 * seconds)
    print("\n".join(rest))


def test_a_profiled_program_computes_correct_results(shell: Shell) -> None:
    """stress-ng verifies its data."""
    for stressor in ("--vm 1 --vm-bytes 16M --verify", "--mmap 1 --mmap-bytes 8M --verify", "--numa 1"):
        output = shell.run(
            f"/opt/selftests/profiled -w 8 stress-ng {stressor} --timeout 5 2>&1", timeout=600
        ).out
        assert "successful run" in output, output
        caught = re.search(r"(\d+) caught accesses", output)
        assert caught is not None, output
        assert int(caught[1]) > 0, output


def test_window_counts_match_the_simulation(shell: Shell, subtests: pytest.Subtests) -> None:
    """For known traces, the counts equal those of a simulated window."""
    for line in shell.run("/opt/selftests/accuracy 7", timeout=900).out.splitlines():
        record = json.loads(line)
        with subtests.test(**{key: record[key] for key in ("pattern", "window")}):
            assert record["error"] == 0


def test_a_processor_without_the_reserved_bit_is_unsupported(kernel: str, programs: Path) -> None:
    spec = machine.load("two-node").model_copy(update={"address_bits": 52})
    with vm.running("wide", boot.prepare(spec, kernel=kernel).boot) as started:
        started.wait_ready()
        with started.shell() as connected:
            connected.put(programs, "/opt/selftests")
            counts = connected.run("/opt/selftests/counts", check=False)
            client = connected.run("cd /opt/selftests && python3 -B client.py", check=False)
        assert "page_profile: off: bit 51 is not reserved with 52 physical address bits" in (
            started.console_path.read_text()
        )
    assert "Bail out! page_profile_open: No such device" in counts.out
    assert "Bail out! " in client.out
    assert "this processor is not supported" in client.out
