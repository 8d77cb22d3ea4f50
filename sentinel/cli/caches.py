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
  sentinel cache list --json    as JSON
""",
)
@output.json_option
def list_(as_json: bool) -> None:
    """List the cache entries, least recently used first."""
    store = Cache()
    entries, damaged = store.entries(), store.damaged()
    if as_json:
        intact = [{**e.manifest, "path": e.path, "bytes": e.size()} for e in entries]
        broken = [
            {"kind": e.kind, "key": e.key, "path": e.path, "bytes": e.size(), "damaged": e.why}
            for e in damaged
        ]
        output.show_json([*intact, *broken])
        return
    lines = [
        [e.kind, e.key[:24], output.size(e.size()), f"{_ago(e.last_used)} ago", str(_description(e.manifest))]
        for e in entries
    ]
    lines += [[e.kind, e.key[:24], output.size(e.size()), "-", f"damaged: {e.why}"] for e in damaged]
    output.show(output.rows(("kind", "key", "size", "used", "content"), lines))
    if damaged:
        note("damaged entries are rebuilt when needed; `sentinel cache prune` removes them")


@cache.command(
    epilog="""\b
Examples:
  sentinel cache prune --older-than 30          entries not used for 30 days
  sentinel cache prune --kind snapshot          all snapshots
  sentinel cache prune --all                    everything, including kernel build trees
"""
)
@click.option(
    "--older-than", type=output.Number(0, 1e6), metavar="DAYS", help="Only entries not used for this long."
)
@click.option("--kind", "kinds", multiple=True, help="Only this kind; repeatable.")
@click.option("--key", "keys", multiple=True, help="Only entries whose key begins with this; repeatable.")
@click.option("--all", "everything", is_flag=True, help="All entries, and the scratch folders of builders.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed; remove nothing.")
def prune(
    older_than: float | None, kinds: tuple[str, ...], keys: tuple[str, ...], everything: bool, dry_run: bool
) -> None:
    """Remove cache entries that are not in use."""
    if not (everything or kinds or keys or older_than is not None):
        raise click.UsageError("choose entries with --older-than DAYS, --kind, --key or --all")
    pruned = Cache().prune(
        older_than_s=(older_than or 0) * 86400, kinds=kinds, keys=keys, work=everything, dry_run=dry_run
    )
    for entry in pruned.removed:
        click.echo(f"{'would remove' if dry_run else 'removed'} {entry.kind} {entry.key[:24]}")
    for entry in pruned.busy:
        click.echo(f"in use, kept: {entry.kind} {entry.key[:24]}")
    click.echo(f"{output.size(pruned.freed)} {'would be freed' if dry_run else 'freed'}")


def _ago(then: float) -> str:
    seconds = datetime.datetime.now(datetime.UTC).timestamp() - then
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _description(manifest: dict[str, object]) -> object:
    """Return the name or description in a manifest."""
    for key in ("name", "description", "release", "suite"):
        if key in manifest:
            return manifest[key]
    return ""
