# SPDX-License-Identifier: Apache-2.0
"""Tools in /opt/sentinel of a machine that `sentinel vm up` starts.

    guest/              python2.7: `python2.7 -m guest.wrap`, models, bindings
    timing_client.py    python2.7 and 3: markers and the model clock; sentinel_markers.h is the same for C
    paced.py            runs a program by the model clock: `python3 -m paced`
    sentinel/planner/   python3: `python3 -m sentinel.planner`
    libsentinel.so      the runtime
    probe               measures memory, for `sentinel calibrate`
    figures.json        the preset's figures, for the planner

Every Python in the guest finds the packages. Compiled parts come from the cache. If one cannot be compiled, a
warning says so, and the machine starts without it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from experiments import frameworks, guest_code, profiles
from testbed.common.cache import Cache
from testbed.common.errors import SentinelError
from testbed.common.progress import warn
from testbed.guestlink.shell import Shell
from testbed.timing import measurement
from testbed.vm import Boot

_ADD_TO_PATH = f"""
for folder in /usr/local/lib/python*/dist-packages; do
  [ -d "$folder" ] && echo {guest_code.FOLDER} >"$folder/sentinel.pth"
done; true
"""


def collect(*, cache: Cache) -> dict[str, Path]:
    """The tools by their name in the guest's folder. Compiles those that are not cached."""
    compiled: dict[str, Callable[[], Path]] = {
        frameworks.DEFAULT.runtime_name: lambda: frameworks.DEFAULT.build_runtime(cache=cache),
        "probe": lambda: measurement.build_probe(cache=cache),
    }
    tools = {**guest_code.sources(), guest_code.PLANNER: guest_code.PLANNER_SOURCE}
    for name, build in compiled.items():
        try:
            tools[name] = build()
        except SentinelError as e:
            warn(f"the machine will not have {guest_code.FOLDER}/{name}: {e.message}")
    return tools


def install(shell: Shell, tools: dict[str, Path], boot: Boot) -> None:
    """Copy the tools into a machine that has just booted."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / Path(guest_code.FOLDER).name
        folder.mkdir(mode=0o755)
        guest_code.stage(folder, tools)
        if boot.preset is not None:
            figures = profiles.machine_figures(boot.preset, boot.machine)
            profiles.write_figures(folder / guest_code.FIGURES, figures)
        shell.put(folder, guest_code.FOLDER)
    shell.run(_ADD_TO_PATH)
