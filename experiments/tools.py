# SPDX-License-Identifier: Apache-2.0
"""What a machine of one's own has in /opt/sentinel, so that the commands of the documentation work there.

    guest/           python2.7 and 3: `python2.7 -m guest.wrap`, `python3 -m guest.paced`, markers, models
    planner/         python3: `python3 -m planner`
    libsentinel.so   the runtime for TensorFlow
    probe            measures memory: `sentinel calibrate` runs it
    figures.json     of the machine's preset, for the planner

Both packages are on the path of every Python. Compiled parts come from the cache; one that cannot be compiled
is left out with a warning, and the machine can be used without it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import sentinel.planner
from experiments import job, profiles
from sentinel.planner.formats import figures
from sentinel.runtime import build as runtime
from testbed.common.cache import Cache
from testbed.common.errors import SentinelError
from testbed.common.progress import warn
from testbed.guestlink.ssh import Shell
from testbed.timing import calibration
from testbed.vm import Boot

FOLDER = "/opt/sentinel"
PLANNER = Path(sentinel.planner.__file__).parent
_ON_THE_PATH = f"""
for folder in /usr/local/lib/python*/dist-packages; do
  [ -d "$folder" ] && echo {FOLDER} >"$folder/sentinel.pth"
done; true
"""


def collect(*, cache: Cache) -> dict[str, Path]:
    """The tools by their name in the guest's folder; compiles what is not in the cache."""
    compiled: dict[str, Callable[[], Path]] = {
        runtime.NAME: lambda: runtime.build(cache=cache),
        "probe": lambda: calibration.build_probe(cache=cache),
    }
    tools = {"guest": job.GUEST_CODE, "planner": PLANNER}
    for name, build in compiled.items():
        try:
            tools[name] = build()
        except SentinelError as e:
            warn(f"the machine will have no {FOLDER}/{name}: {e.message}")
    return tools


def install(shell: Shell, tools: dict[str, Path], boot: Boot) -> None:
    """Copy the tools into a guest that has just booted."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / Path(FOLDER).name
        folder.mkdir(mode=0o755)
        for name, source in tools.items():
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)
        if boot.preset is not None:
            made = profiles.figures_of(boot.preset, helpers=profiles.helpers_of(boot.machine))
            (folder / "figures.json").write_text(json.dumps(figures.encode(made)) + "\n")
        shell.put(folder, FOLDER)
    shell.run(_ON_THE_PATH)
