# SPDX-License-Identifier: Apache-2.0
"""`sentinel kernel ...` and `sentinel image ...`."""

from __future__ import annotations

import click

from sentinel.cli import output, streams

_source = click.argument("source", default="auto")
_location = click.option(
    "--source-location",
    "location",
    metavar="PATH|REPO@COMMIT",
    help="Take the source from this tree, tarball or git commit.",
)
_fragments = click.option(
    "--fragment",
    "fragments",
    multiple=True,
    help="Configuration fragment; repeatable (default: base, numa, guest, profile).",
)


@click.group()
def kernel() -> None:
    """Build patched kernels."""


@kernel.command(
    epilog="""\b
Examples:
  sentinel kernel build                                    4.9 if available, else 6.1
  sentinel kernel build 6.1
  sentinel kernel build 4.9 --source-location ~/linux-4.9
  sentinel kernel build 4.9 --source-location ~/linux@v4.9
  sentinel kernel build 6.1 --fragment base --fragment numa --fragment guest    without the profiler
"""
)
@_source
@_location
@_fragments
@click.option("--dry-run", is_flag=True, help="Show what would be built; build nothing.")
@output.json_option
def build(
    source: str, location: str | None, fragments: tuple[str, ...], dry_run: bool, as_json: bool
) -> None:
    """Build the kernel SOURCE: 4.9, 6.1 or auto."""
    from kernel.build import build as build_kernel
    from kernel.config import DEFAULT
    from testbed.common import places

    places.check_roots(cache=True)
    streams.check()
    built = build_kernel(source, location=location, flavour=fragments or DEFAULT, dry_run=dry_run)
    if dry_run:
        return
    if as_json:
        output.show_json({"path": built.bzimage, **built.entry.manifest})
    else:
        click.echo(built.bzimage)


@kernel.command(
    "list",
    epilog="""\b
Examples:
  sentinel kernel list
  sentinel kernel list --json    as JSON
""",
)
@output.json_option
def list_(as_json: bool) -> None:
    """List the built kernels."""
    from kernel.build import installed
    from testbed.common.cache import Cache

    kernels = installed(Cache())
    if as_json:
        output.show_json([{"path": k.bzimage, **k.entry.manifest} for k in kernels])
        return
    lines = [
        [k.source, k.release, k.entry.key[:12], str(k.entry.manifest["created"]), str(k.bzimage)]
        for k in kernels
    ]
    output.show(output.rows(("source", "release", "key", "created", "path"), lines))


@kernel.command(
    epilog="""\b
Examples:
  sentinel kernel config 6.1                 the .config of the build
  sentinel kernel config 6.1 --requested     only the symbols of the fragments
"""
)
@_source
@_location
@_fragments
@click.option("--requested", is_flag=True, help="Only the symbols of the fragments, with their places.")
def config(source: str, location: str | None, fragments: tuple[str, ...], requested: bool) -> None:
    """Print the configuration of the kernel SOURCE."""
    from kernel import config as configs
    from kernel.build import resulting_config
    from kernel.build_spec import resolve
    from testbed.common import places
    from testbed.common.cache import Cache

    places.check_roots(cache=True)
    flavour = fragments or configs.DEFAULT
    if requested:
        spec = resolve(source, location=location, flavour=flavour, cache=Cache(), fetch=False)
        click.echo(configs.text(spec.requests), nl=False)
    else:
        click.echo(resulting_config(source, location=location, flavour=flavour), nl=False)


@click.group()
def image() -> None:
    """Build the guest's disk image."""


@image.command(
    "build",
    epilog="""\b
Examples:
  sentinel image build
  MIRROR=http://mirror.example/debian sentinel image build
""",
)
@click.option("--dry-run", is_flag=True, help="Show what would be built; build nothing.")
@output.json_option
def build_image(dry_run: bool, as_json: bool) -> None:
    """Build the guest: Debian 11 with TensorFlow 1.13.1."""
    from images.build import build as build_guest
    from testbed.common import places

    places.check_roots(cache=True)
    streams.check()
    built = build_guest(dry_run=dry_run)
    if dry_run:
        return
    if as_json:
        output.show_json({"path": built.disk, **built.entry.manifest})
    else:
        click.echo(built.disk)
