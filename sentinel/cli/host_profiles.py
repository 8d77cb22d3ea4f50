# SPDX-License-Identifier: Apache-2.0
"""`sentinel profile`: a profile of a training step on this host's processor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentinel.cli import output
from sentinel.cli.plans import usage_errors
from testbed.common.errors import UsageError

if TYPE_CHECKING:
    from experiments.job import Work

_PATH = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  sentinel profile --host resnet --configuration paper -o resnet.json.gz
  sentinel profile --host mobilenet --configuration paper --parameter batch=64 -o mobilenet.json.gz
  sentinel profile --host dcgan -o dcgan                        a folder: its steps are of two kinds
  sentinel profile --host train.py --arg small --file data -o train.json.gz
"""
)
@click.argument("target", metavar="SCRIPT|MODEL")
@click.option(
    "--host", is_flag=True, help="Run on this host's processor, in the guest image's root file system."
)
@click.option("-o", "--output", "out", type=_PATH, required=True, help="Profile; or a folder for all kinds.")
@click.option("--configuration", metavar="NAME", help="Of the MODEL; see `sentinel model show`.")
@click.option(
    "--parameter", "parameters", metavar="NAME=VALUE", multiple=True, help="Of the MODEL; repeatable."
)
@click.option("--arg", "args", metavar="TEXT", multiple=True, help="Argument of the SCRIPT; repeatable.")
@click.option(
    "--file",
    "files",
    type=_PATH,
    multiple=True,
    help="A file or folder that the SCRIPT needs, in its folder; repeatable.",
)
@click.option(
    "--step-op",
    "step_ops",
    metavar="NAME",
    multiple=True,
    help="An operation of the SCRIPT whose runs are the training steps; repeatable.",
)
@click.option(
    "--socket-speed",
    type=output.Number(0.001, 1e9),
    default=3700,
    show_default=True,
    metavar="GFLOP/S",
    help="Speed of the modelled socket, to which computing time is scaled.",
)
@click.option(
    "--warmup", type=click.IntRange(1, 1000), default=1, show_default=True, help="Steps before the profile."
)
@click.option(
    "--steps",
    type=click.IntRange(2, 100_000),
    help="Steps from the profile on: 2 recorded of each kind, the others timed (default: 5; SCRIPT: 8).",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=7, show_default=True, help="Seed of the graph."
)
def profile(
    target: str,
    host: bool,
    out: Path,
    configuration: str | None,
    parameters: tuple[str, ...],
    args: tuple[str, ...],
    files: tuple[Path, ...],
    step_ops: tuple[str, ...],
    socket_speed: float,
    warmup: int,
    steps: int | None,
    seed: int,
) -> None:
    """Profile a training step of SCRIPT or MODEL at any size that fits this host's memory.

    The guest's TensorFlow runs on this host, as root, without a machine. Computing times are scaled to the
    modelled socket; `sentinel simulate` and `sentinel plan` add the memory's time.
    """
    from experiments import host_profile, models, profiles
    from sentinel.planner.formats import files as formats
    from testbed.common import places
    from testbed.common.progress import note

    if not host:
        raise UsageError("needs --host", hint="in a machine, `sentinel run` and `sentinel train` profile")
    is_model = target in models.names()
    single = out.name.endswith((".json", ".json.gz"))
    if is_model:
        _refuse("a MODEL", {"--arg": args, "--file": files, "--step-op": step_ops})
        work = _model(target, configuration, parameters, seed)
    else:
        _refuse("a SCRIPT", {"--configuration": configuration, "--parameter": parameters})
        work = _script(Path(target), args, files, step_ops, seed)
    if single:
        places.check_file(out, "--output")
    else:
        places.check_folder(out, "--output")
    count = steps or (host_profile.STEPS if is_model else host_profile.SCRIPT_STEPS)
    recorded = host_profile.record(work, warmup=warmup, steps=count, socket_speed=socket_speed)
    if single and len(recorded) > 1:
        raise UsageError(f"{target} has {len(recorded)} kinds of steps", hint="let --output name a folder")
    folder = out.parent if single else out
    folder.mkdir(parents=True, exist_ok=True)
    with usage_errors():
        for kind, step in recorded.items():
            path = out if single else folder / f"{kind}{profiles.SUFFIX}"
            formats.write_profile(path, step)
            note(f"wrote the profile to {path}")


def _refuse(target: str, given: dict[str, Any]) -> None:
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} is not for {target}")


def _model(name: str, configuration: str | None, parameters: tuple[str, ...], seed: int) -> Work:
    """The training of a model. Raises `UsageError` for wrong parameters."""
    from pydantic import ValidationError

    from experiments import host_files, models
    from experiments.job import Work

    values: dict[str, Any] = {} if configuration is None else {models.CONFIGURATION: configuration}
    for text in parameters:
        key, separator, value = text.partition("=")
        if not separator:
            raise UsageError(f"--parameter {text}: must be NAME=VALUE")
        values[key] = int(value) if value.isdecimal() and value.isascii() and len(value) < 19 else value
    try:
        model = models.registry()[name].resolve(values)
    except ValidationError as e:
        first = e.errors()[0]
        key = str(first["loc"][0])
        option = "--configuration" if key == models.CONFIGURATION else f"--parameter {key}"
        raise UsageError(f"{option}: {first['msg']} (got {first['input']})") from None
    folder = model.pop(models.DATA, None)
    data = None if folder is None else host_files.load_data(Path(folder))
    return Work(seed=seed, threads=1, runtime=True, model=model, data=data)


def _script(
    path: Path, args: tuple[str, ...], files: tuple[Path, ...], step_ops: tuple[str, ...], seed: int
) -> Work:
    """The training of a script. Raises `UsageError` if there is no such file."""
    from experiments import models, scripts
    from experiments.job import Work

    if not path.exists():
        raise UsageError(f"no script and no model {path}", hint=f"models: {', '.join(models.names())}")
    return Work(seed=seed, threads=1, runtime=True, script=scripts.load(path, args, files, step_ops=step_ops))
