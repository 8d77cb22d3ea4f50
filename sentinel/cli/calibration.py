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
  sentinel calibrate --preset optane-6dimm --paced     by the guest clock
  sentinel calibrate --preset ./mine.yaml --plots .    latency by size and by load
"""
)
@click.option("--preset", required=True, help="A preset by name, or a YAML file.")
@click.option("--machine", default="two-node", show_default=True, help="A machine by name, or a YAML file.")
@click.option("--kernel", default="auto", show_default=True, help="4.9, 6.1 or auto.")
@click.option(
    "--source-location", "location", help="Where the kernel's source is; see `sentinel kernel build`."
)
@click.option("--paced", is_flag=True, help="Pace the guest, and measure by the guest clock.")
@click.option("--again", is_flag=True, help="Measure again, even if the result is cached.")
@click.option(
    "--plots", type=click.Path(path_type=Path), help="Write latency.svg and load.svg into this folder."
)
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
    """Measure a machine's memory in the guest and compare it with the preset; exit 9 if they differ."""
    from experiments import boot
    from testbed import machine as machines
    from testbed.common import places
    from testbed.timing import measurement
    from testbed.timing import preset as presets

    spec, costs = machines.load(machine), presets.load(preset)
    places.check_roots(cache=True, state=True)
    if plots is not None:
        if paced:
            raise UsageError("--plots needs a synchronised calibration", hint="leave --paced out")
        places.check_folder(plots, "--plots")
    streams.check()
    made = boot.prepare(spec, preset=costs, kernel=kernel, location=location)
    calibration = measurement.calibrate(made.boot, paced=paced, again=again, uri=uri)
    if as_json:
        output.show_json(
            {**calibration.to_record(), "dilation": calibration.dilation, "rows": list(calibration.rows)}
        )
    else:
        _show(calibration)
    if plots is not None:
        from results.plots import calibration as calibration_plots

        calibration_plots.write(calibration, plots)
    return ExitCode.OK if calibration.good else ExitCode.INFRASTRUCTURE


def _show(calibration: Calibration) -> None:
    lines = [
        (
            figure.name,
            f"{figure.expected:.4g}",
            f"{figure.measured:.4g}",
            figure.unit,
            f"{figure.error:+.1%}",
            "ok" if figure.good else f"over {figure.bound:.0%}",
            f"{figure.behind:.2%}" if calibration.dilation else "",
        )
        for figure in calibration.figures
    ]
    columns = ["figure", "preset", "measured", "", "error", "", "behind" if calibration.dilation else ""]
    clock = (
        f"paced, {calibration.dilation:.0f} real ns for each model ns"
        if calibration.dilation
        else "synchronised"
    )
    caption = f"{clock}; {calibration.created}; {calibration.key[:12]}"
    output.show(output.rows(columns, lines, caption=caption))
