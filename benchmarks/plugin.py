# SPDX-License-Identifier: Apache-2.0
"""The timing plugin's cost in CPU time of QEMU, on a machine without an operating system.

    python benchmarks/plugin.py --rounds 5 --other ../old/testbed/timing

Runs each work of `bare/work.c` without the plugin, with this clone's and with that of other sources, in
turns. Prints the CPU seconds (median and range; those of an empty region are subtracted) and their ratios.
CPU time hardly depends on other load.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from testbed.common import settings
from testbed.host import accel
from testbed.timing import plugin
from tests import timing_config

MIB = 1 << 20
WORKS = {"sort": 200, "sum": 100, "copy": 150, "chase": 200}  # rounds of about a second
FLAGS = (
    *("-m32", "-ffreestanding", "-nostdlib", "-static", "-fno-pie", "-no-pie", "-fno-stack-protector"),
    *("-fcf-protection=none", "-O2", "-Wl,-Ttext=0x100000,--build-id=none,-N,--no-warn-rwx-segments"),
)
SOURCE = Path(__file__).parent / "bare" / "work.c"


def compile_plugin(sources: Path, target: Path) -> Path:
    api = plugin.api_of(accel.parse_version(accel.qemu_version(settings.QEMU.get())))
    files = [str(path) for path in sorted(sources.glob("*.c"))]
    flags = [*plugin._FLAGS, *plugin.LIBRARIES]
    subprocess.run(["gcc", f"-DAPI={api}", "-o", str(target), *files, *flags], check=True)
    return target


def cpu_seconds(program: Path, library: Path | None) -> float:
    """Return the CPU time of a machine that runs the program."""
    with tempfile.TemporaryDirectory() as folder:
        config = timing_config.write(
            Path(folder), split=64 * MIB, end=128 * MIB, parallelism=240, cache__size=MIB // 2
        )
        command = [
            *(settings.QEMU.get(), "-M", "q35,memory-backend=memory", "-accel", "tcg", "-cpu", "max"),
            *("-m", "128M", "-nodefaults", "-display", "none", "-kernel", str(program)),
            *("-object", "memory-backend-ram,id=memory,size=128M"),
            *("-device", "isa-debug-exit,iobase=0xf4,iosize=1"),
        ]
        if library is not None:
            command += ["-plugin", f"{library},config={config}"]
        with subprocess.Popen(command) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 1:  # isa-debug-exit: 2 x value + 1
        raise SystemExit(f"QEMU exited with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="machines of each kind and work")
    parser.add_argument("--other", type=Path, help="folder of other sources of the plugin")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        variants: dict[str, Path | None] = {"plain": None}
        variants["this"] = compile_plugin(plugin.SOURCES, folder / "this.so")
        if options.other:
            variants["other"] = compile_plugin(options.other, folder / "other.so")
        for work, rounds in WORKS.items():
            programs = []
            for label, times in (("empty", 0), ("full", rounds)):
                programs.append(folder / f"{work}-{label}")
                defined = [f"-DROUNDS={times}u", f"-DWORK={work}", "-Wno-unused-function"]
                command = ["gcc", *FLAGS, *defined, "-o", str(programs[-1]), str(SOURCE)]
                subprocess.run(command, check=True)
            seconds: dict[str, list[float]] = {variant: [] for variant in variants}
            for _ in range(options.rounds):
                for variant, library in variants.items():
                    empty, full = (cpu_seconds(program, library) for program in programs)
                    seconds[variant].append(full - empty)
            median = {variant: statistics.median(values) for variant, values in seconds.items()}
            shown = "  ".join(
                f"{variant} {median[variant]:.3f} s ({min(values):.3f}-{max(values):.3f})"
                for variant, values in seconds.items()
            )
            ratios = "  ".join(
                f"{variant} / plain {median[variant] / median['plain']:.2f}"
                for variant in variants
                if variant != "plain"
            )
            print(f"{work:6} {shown}  {ratios}", flush=True)


if __name__ == "__main__":
    main()
