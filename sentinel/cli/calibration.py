# SPDX-License-Identifier: Apache-2.0
"""`sentinel calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli import output, streams
from testbed.common.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from testbed.timing.calibration import Calibration


@click.command(
    epilog="""\b
Examples:
  sentinel calibrate --preset optane-6dimm
  sentinel calibrate --preset optane-6dimm --paced     by the guest's ordinary clock
  sentinel calibrate --preset ./mine.yaml --plots .    latency by size and by load
"""
)
@click.option("--preset", required=True, help="A preset by name, or a YAML file.")
@click.option("--machine", default="two-node", show_default=True, help="A machine by name, or a YAML file.")
@click.option("--kernel", default="auto", show_default=True, help="4.9, 6.1 or auto.")
@click.option(
    "--source-location", "location", help="Where the kernel's source is; see `sentinel kernel build`."
)
@click.option("--paced", is_flag=True, help="Pace the guest, and measure by its ordinary clock.")
@click.option("--again", is_flag=True, help="Measure even if nothing changed since the last time.")
@click.option("--plots", type=click.Path(path_type=Path), help="Write latency.svg and load.svg there.")
@click.option("--uri", help="The libvirt connection (default: embed).")
@output.json_option
def calibrate(
    preset: str,
    machine: str,
    kernel: str,
    location: str | None,
    paced: bool,
    again: bool,
    plots: Path | None,
    uri: str | None,
    as_json: bool,
) -> int:
    """Measure a machine's memory in the guest, beside what the preset says; exit 9 if they differ."""
    from experiments import boot
    from testbed import machine as machines
    from testbed.common import places
    from testbed.timing import calibration
    from testbed.timing import preset as presets

    spec, costs = machines.load(machine), presets.load(preset)
    places.check_roots(cache=True, state=True)
    if plots is not None:
        if paced:
            raise UsageError("a paced calibration has no curves", hint="leave --paced out")
        places.check_folder(plots, "--plots")
    streams.check()
    made = boot.prepare(spec, preset=costs, kernel=kernel, location=location)
    found = calibration.of(made.boot, paced=paced, again=again, uri=uri)
    if as_json:
        output.show_json({**found.cited(), "dilation": found.dilation, "rows": list(found.rows)})
    else:
        _show(found)
    if plots is not None:
        from results.plots import calibration as calibration_plots

        calibration_plots.write(found, plots)
    return ExitCode.OK if found.good else ExitCode.INFRASTRUCTURE


def _show(found: Calibration) -> None:
    lines = [
        (
            figure.name,
            f"{figure.expected:.4g}",
            f"{figure.measured:.4g}",
            figure.unit,
            f"{figure.error:+.1%}",
            "ok" if figure.good else f"more than {figure.bound:.0%}",
            f"{figure.behind:.2%}" if found.dilation else "",
        )
        for figure in found.figures
    ]
    columns = ["figure", "preset", "measured", "", "error", "", "behind" if found.dilation else ""]
    clock = f"paced, {found.dilation:.0f} real ns for a model ns" if found.dilation else "synchronised"
    caption = f"{clock}; {found.made}; {found.key[:12]}"
    output.show(output.rows(columns, lines, caption=caption))
