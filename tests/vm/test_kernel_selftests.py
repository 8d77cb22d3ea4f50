# SPDX-License-Identifier: Apache-2.0
"""The kernel's own tests of its memory manager: what passes without the profiler passes under it.

Runs with --slow only: it builds kernels without the profiler to compare with.
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
# As the kernel's run_vmtests.sh calls them, with less memory; a version has some of them
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
# These ask for huge pages in memory that is profiled, which has none
HUGE = {"khugepaged", "split_huge_page_test"}


def compile_into(folder: Path, kernel: str) -> None:
    """The programs of a kernel's tools/testing/selftests/vm, as far as this host can compile them."""
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
    assert len(list(folder.iterdir())) > 5, "hardly one of the kernel's tests can be compiled here"


def passed(kernel: str, flavour: tuple[str, ...], programs: Path, prefix: str) -> dict[str, bool]:
    """Which commands end with 0, each under `prefix`; on a kernel that has nothing to complain of."""
    made = boot.prepare(machine.load("two-node"), kernel=kernel, flavour=flavour)
    results = {}
    with vm.running("kernel-selftests", made.boot) as guest:
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


def test_what_passes_without_the_profiler_passes_under_it(
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
    assert sum(before.values()) >= 4, before  # all that 4.9 has without hugetlbfs and userfaultfd
    for command, was in before.items():
        with subtests.test(msg=command):
            if not was:
                pytest.skip("fails without the profiler too")
            if command.split()[0] in HUGE:
                pytest.skip("asks for huge pages, which profiled memory has none of")
            assert after[command]
