# SPDX-License-Identifier: Apache-2.0
"""`sentinel cache ...`."""

from __future__ import annotations

import datetime

import click

from sentinel.cli import output
from testbed.common.cache import Cache
from testbed.common.progress import note


@click.group()
def cache() -> None:
    """List or prune cached kernels, images and snapshots."""


@cache.command(
    "list",
    epilog="""\b
Examples:
  sentinel cache list
  sentinel cache list --json    the same for programs
""",
)
@output.json_option
def list_(as_json: bool) -> None:
    """List what is in the cache, oldest use first."""
    store = Cache()
    entries, damaged = store.entries(), store.damaged()
    if as_json:
        whole = [{**e.manifest, "path": e.path, "bytes": e.size()} for e in entries]
        broken = [
            {"kind": e.kind, "key": e.key, "path": e.path, "bytes": e.size(), "damaged": e.why}
            for e in damaged
        ]
        output.show_json([*whole, *broken])
        return
    lines = [
        [e.kind, e.key[:24], output.size(e.size()), f"{_ago(e.last_used)} ago", str(_described(e.manifest))]
        for e in entries
    ]
    lines += [[e.kind, e.key[:24], output.size(e.size()), "-", f"damaged: {e.why}"] for e in damaged]
    output.show(output.rows(("kind", "key", "size", "used", "what"), lines))
    if damaged:
        note("damaged entries are built again when they are needed; any `sentinel cache prune` removes them")


@cache.command(
    epilog="""\b
Examples:
  sentinel cache prune --older-than 30          what was not used for 30 days
  sentinel cache prune --kind snapshot          all snapshots
  sentinel cache prune --all                    everything, and the kernels' work trees
"""
)
@click.option(
    "--older-than", type=output.Number(0, 1e6), metavar="DAYS", help="Only what was not used for so long."
)
@click.option("--kind", "kinds", multiple=True, help="Only this kind; may be repeated.")
@click.option("--key", "keys", multiple=True, help="Only entries whose key begins so; may be repeated.")
@click.option(
    "--all", "everything", is_flag=True, help="Everything, and scratch that builders keep between builds."
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
def prune(
    older_than: float | None, kinds: tuple[str, ...], keys: tuple[str, ...], everything: bool, dry_run: bool
) -> None:
    """Remove entries that nobody is using."""
    if not (everything or kinds or keys or older_than is not None):
        raise click.UsageError("say what: --older-than DAYS, --kind, --key or --all")
    done = Cache().prune(
        older_than_s=(older_than or 0) * 86400, kinds=kinds, keys=keys, work=everything, dry_run=dry_run
    )
    for entry in done.removed:
        click.echo(f"{'would remove' if dry_run else 'removed'} {entry.kind} {entry.key[:24]}")
    for entry in done.busy:
        click.echo(f"in use, kept: {entry.kind} {entry.key[:24]}")
    click.echo(f"{output.size(done.freed)} {'would be freed' if dry_run else 'freed'}")


def _ago(then: float) -> str:
    seconds = datetime.datetime.now(datetime.UTC).timestamp() - then
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _described(manifest: dict[str, object]) -> object:
    """What the entry's maker calls it."""
    for key in ("name", "description", "release", "suite"):
        if key in manifest:
            return manifest[key]
    return ""
