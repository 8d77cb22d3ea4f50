# SPDX-License-Identifier: Apache-2.0
"""The kernel's own selftests of the memory manager: those that pass without the profiler pass under it.

Runs with --slow only, because it builds kernels without the profiler for comparison.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from experiments import boot
from kernel import tree
from kernel.build_spec import resolve
from kernel.config import DEFAULT
from testbed import machine, vm
from testbed.common.cache import Cache

pytestmark = pytest.mark.slow

WITHOUT = tuple(fragment for fragment in DEFAULT if fragment != "profile")
# Commands of the kernel's run_vmtests.sh, with less memory. Not every version has all of them.
COMMANDS = (
    "compaction_test",
    "gup_test -u",
    "gup_test -a",
    "hugepage-mmap",
    "hugepage-mremap /mnt/huge/mremap",
    "hugepage-shm",
    "hugepage-vmemmap",
    "hugetlb-madvise /mnt/huge/madvise",
    "khugepaged",
    "ksm_tests -M -p 10",
    "ksm_tests -U",
    "ksm_tests -Z -p 10 -z 0",
    "ksm_tests -Z -p 10 -z 1",
    "ksm_tests -N -m 1",
    "ksm_tests -N -m 0",
    "madv_populate",
    "map_fixed_noreplace",
    "map_hugetlb",
    "map_populate",
    "memfd_secret",
    "mlock-random-test",
    "mlock2-tests",
    "mrelease_test",
    "mremap_dontunmap",
    "mremap_test",
    "on-fault-limit",
    "protection_keys",
    "soft-dirty",
    "split_huge_page_test",
    "thuge-gen",
    "userfaultfd anon 20 16",
    "userfaultfd 20 16",
    "userfaultfd hugetlb 20 16",
    "userfaultfd shmem 20 16",
    "virtual_address_range",
)
# These request huge pages, which profiled memory does not have
HUGE = {"khugepaged", "split_huge_page_test"}


def compile_into(folder: Path, kernel: str) -> None:
    """Compile the programs of a kernel's tools/testing/selftests/vm, as far as the host supports them."""
    cache = Cache()
    spec = resolve(kernel, location=None, flavour=DEFAULT, cache=cache)
    with tree.opened(spec.source, spec.patches, cache=cache) as work:
        sources = work.tree / "tools" / "testing" / "selftests" / "vm"
        for program in {command.split()[0] for command in COMMANDS}:
            if not (sources / f"{program}.c").exists():
                continue
            extra = [sources / "vm_util.c"] if (sources / "vm_util.c").exists() else []
            flags = ["-static", "-O2", "-w", f"-I{sources}", f"-I{sources.parent}"]
            files = [str(path) for path in (folder / program, sources / f"{program}.c", *extra)]
            command = ["gcc", *flags, "-o", *files, "-lpthread", "-lrt", "-lm"]
            subprocess.run(command, capture_output=True, check=False)
    assert len(list(folder.iterdir())) > 5, "hardly any of the kernel's tests can be compiled"


def passed(kernel: str, flavour: tuple[str, ...], programs: Path, prefix: str) -> dict[str, bool]:
    """Run each command under `prefix`. Return whether it exits with 0. Fails on any kernel BUG."""
    artifacts = boot.prepare(machine.load("two-node"), kernel=kernel, flavour=flavour)
    results = {}
    with vm.running("kernel-selftests", artifacts.boot) as guest:
        guest.wait_ready()
        with guest.shell() as shell:
            shell.put(programs, "/opt/vm")
            shell.run("mkdir -p /mnt/huge && mount -t hugetlbfs none /mnt/huge", check=False)
            for command in COMMANDS:
                if (programs / command.split()[0]).exists():
                    shell.run("echo 64 >/proc/sys/vm/nr_hugepages", check=False)
                    line = f"cd /opt/vm && {prefix} timeout -s KILL 120 ./{command}"
                    results[command] = shell.run(line, check=False, timeout=300).code == 0
        assert "BUG: " not in guest.console_path.read_text(errors="replace")
    return results


def test_selftests_that_pass_without_the_profiler_pass_under_it(
    kernel: str,
    programs: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    subtests: pytest.Subtests,
) -> None:
    if not request.config.getoption("--slow"):
        pytest.skip("builds a kernel without the profiler; run with --slow")
    compile_into(tmp_path, kernel)
    shutil.copy(programs / "profiled", tmp_path)
    before = passed(kernel, WITHOUT, tmp_path, "")
    after = passed(kernel, DEFAULT, tmp_path, "./profiled -w 8")
    assert sum(before.values()) >= 4, before  # the minimum on 4.9, without hugetlbfs and userfaultfd
    for command, passed_before in before.items():
        with subtests.test(msg=command):
            if not passed_before:
                pytest.skip("also fails without the profiler")
            if command.split()[0] in HUGE:
                pytest.skip("requests huge pages, which profiled memory does not have")
            assert after[command]
