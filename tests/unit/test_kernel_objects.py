# SPDX-License-Identifier: Apache-2.0
"""With the profiler's option off, the code that its patches touch is what it was without them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from kernel import compilation, tree
from kernel.build_spec import BuildSpec, resolve
from testbed.common import settings
from testbed.common.cache import Cache
from testbed.common.errors import InfrastructureError

# read before a test's own settings hide it
LINUX = {"4.9": settings.LINUX_4_9.get() or None, "6.1": settings.LINUX_6_1.get() or None}
# One object for each file that a hook is in, or a header that was changed is used most
HOOKED = (
    "arch/x86/mm/fault.o",
    "fs/proc/task_mmu.o",
    "kernel/fork.o",
    "kernel/sched/core.o",
    "mm/huge_memory.o",
    "mm/khugepaged.o",
    "mm/memory.o",
    "mm/migrate.o",
    "mm/mprotect.o",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", LINUX)
def test_the_patches_change_no_object_with_the_option_off(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if not request.config.getoption("--slow"):
        pytest.skip("compiles parts of a kernel twice; run with --slow")
    cache = Cache(tmp_path / "cache")
    try:
        spec = resolve(name, location=LINUX[name], flavour=("base", "numa", "guest"), cache=cache)
    except InfrastructureError as e:
        pytest.skip(f"no kernel source: {e.message}")
    without = tuple(p for p in spec.patches if "profile" not in p.name and "mark" not in p.name)
    assert len(spec.patches) - len(without) == 9
    before = code(BuildSpec(spec.source, spec.flavour, without, spec.requests), cache)
    after = code(spec, cache)
    assert "page_profile_fault" not in "".join(after.values())
    for file in HOOKED:
        assert before[file].count("\n") > 500, f"{file} is hardly there"
        assert different(before[file], after[file]) == []


def different(before: str, after: str) -> list[tuple[str, str]]:
    """Instructions that differ, but for the line numbers that Linux 4.9 hands to its warnings."""
    lines = list(zip(before.splitlines(), after.splitlines(), strict=True))
    return [(a, b) for a, b in lines if a != b and not 0 < line_number(b) - line_number(a) < 10]


def line_number(instruction: str) -> int:
    """The second argument of warn_slowpath_null(file, line); 0 if it is another instruction."""
    match = re.search(r"\smov +\$0x([0-9a-f]+),%esi$", instruction)
    return int(match[1], 16) if match else 0


def code(spec: BuildSpec, cache: Cache) -> dict[str, str]:
    """The disassembly of each object, with its relocations."""
    with tree.opened(spec.source, spec.patches, cache=cache) as work:
        compilation.configure(spec, work)
        maker = work.kbuild(spec.flavour)
        maker.stream(maker.argv(*HOOKED, jobs=settings.jobs()), log=work.folder / "objects.log")
        return {
            file: subprocess.run(
                ["objdump", "-dr", file], cwd=maker.output, capture_output=True, text=True, check=True
            ).stdout
            for file in HOOKED
        }
