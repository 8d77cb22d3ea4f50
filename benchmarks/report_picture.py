# SPDX-License-Identifier: Apache-2.0
"""Make docs/report.png: the page of a synthetic run in a headless Chromium.

    PYTHONPATH=. python benchmarks/report_picture.py docs/report.png

With a run, shows its page instead, whole, at any width and in either theme:

    PYTHONPATH=. python benchmarks/report_picture.py /tmp/p.png --run runs/p --width 360 --theme dark
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from results import page
from results.runs import Run
from tests.browser import TIMEOUT_MS, browser
from tests.fakes import networks
from tests.fakes.run_records import make_run

POLICIES = ("fast-only", "slow-only", "first-touch", "interleave", "sentinel", "sentinel-opt")
HEIGHT = 1500  # of the part of the page in the documentation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="the PNG file")
    parser.add_argument("--run", type=Path, help="folder of a run (default: a synthetic run)")
    parser.add_argument("--width", type=int, default=1000, help="of the window in pixels (default: 1000)")
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        run = Run.load(options.run) if options.run else synthetic(Path(folder))
        path = page.write(run, Path(folder) / "page.html")
        tab = chromium.new_page(
            viewport={"width": options.width, "height": HEIGHT}, color_scheme=options.theme
        )
        tab.goto(path.as_uri(), timeout=TIMEOUT_MS)
        tab.screenshot(path=options.out, full_page=options.run is not None, timeout=TIMEOUT_MS)


def synthetic(folder: Path) -> Run:
    """Store a run of one model with every policy at three budgets."""
    return make_run(
        folder / "run",
        models=("resnet20",),
        placements=POLICIES,
        fast_memory=("20%", "40%"),
        profile=networks.resnet(seed=7, blocks=2),
        factor=3.2,  # so that measured times are near the predicted ones
    )


if __name__ == "__main__":
    main()
