# SPDX-License-Identifier: Apache-2.0
"""Two runs side by side: time ratios with their spread, losses, and a verdict where one can be had.

Cells are matched by id, and those left over by model and placement if that names one cell on each side; the
keys in which such a pair differs are told. No verdict on speed is given where times could not mean it: both
nodes alike, different clocks, or different accelerators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from results import cells, losses
from results.runs import Cell, Run
from results.stats import CONFIDENCE, Clock, Ratio, Summary, clock_of, ratio, samples, summarise
from results.summary import throttled
from results.units import duration, plain

FORMAT = 1

_STYLES = {"faster": "green", "slower": "red"}


@dataclass(frozen=True)
class Pair:
    """A cell of A and its match in B. `ratio` is B's time in units of A's: above 1, B is slower.

    `verdict` is faster, slower or "no difference seen" (of B), or begins with "no verdict: ".
    """

    a: Cell
    b: Cell
    matched: Literal["id", "model and placement"]
    differs: dict[str, tuple[Any, Any]]
    clock: Clock
    before: Summary | None
    after: Summary | None
    ratio: Ratio | None
    losses: losses.Check
    verdict: str

    @property
    def label(self) -> str:
        return cells.label(self.a.resolved if len(self.a.resolved) > 1 else self.b.resolved)


@dataclass(frozen=True)
class Comparison:
    """The matched pairs, and the cells only one run has."""

    a: Run
    b: Run
    pairs: list[Pair]
    only_a: list[Cell]
    only_b: list[Cell]

    def rows(self) -> list[dict[str, Any]]:
        """One mapping per pair, times in nanoseconds, for JSON."""
        return [_row(pair) for pair in self.pairs]

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {
            "format": FORMAT,
            "a": str(self.a.path),
            "b": str(self.b.path),
            "rows": self.rows(),
            "only_a": [_named(cell) for cell in self.only_a],
            "only_b": [_named(cell) for cell in self.only_b],
            "warnings": [*self.a.warnings, *self.b.warnings],
        }

    def table(self) -> Table:
        """The comparison for the terminal; losses, differences and unmatched cells stand below."""
        table = Table(
            title=Text(f"A: {self.a.path}\nB: {self.b.path}"), title_justify="left", caption_justify="left"
        )
        for column in ("Cell", "A", "B", "B/A"):
            table.add_column(column, justify="left" if column == "Cell" else "right", overflow="fold")
        table.add_column("Verdict on B", overflow="fold")
        for pair in self.pairs:
            r = pair.ratio
            table.add_row(
                Text(pair.label),
                Text(duration(pair.before.centre_ns) if pair.before else "-"),
                Text(duration(pair.after.centre_ns) if pair.after else "-"),
                Text(f"{r.value:.3f} ({r.low:.3f} to {r.high:.3f})" if r else "-"),
                Text(pair.verdict, style=_STYLES.get(pair.verdict, "")),
            )
        table.caption = self._below()
        table.caption_style = ""
        return table

    def _below(self) -> Text:
        text = Text()
        for pair in self.pairs:
            if pair.differs:
                differences = ", ".join(f"{k} {a} -> {b}" for k, (a, b) in pair.differs.items())
                text.append(f"{pair.label}: matched by {pair.matched}; differs in {plain(differences)}\n")
            outcome = pair.losses.outcome
            text.append("losses ").append(outcome, style="bold red" if outcome == "DIFFERENT" else "")
            text.append(f" {pair.label}: {pair.losses.text}\n")
        for name, only in (("A", self.only_a), ("B", self.only_b)):
            for cell in only:
                text.append(f"only in {name}: {cells.label(cell.resolved)} ({cell.id})\n", style="yellow")
        for warning in (*self.a.warnings, *self.b.warnings):
            text.append(f"warning: {warning}\n", style="yellow")
        clocks = sorted({pair.clock for pair in self.pairs if pair.ratio})
        if clocks:
            text.append(
                f"time per step by the {' or '.join(clocks)} clock, warm-up excluded; above 1: B is slower; "
                f"in parentheses the middle {CONFIDENCE:.0%} of a bootstrap over repeats and steps\n",
                style="dim",
            )
        if any(pair.ratio and pair.ratio.repeats == 1 for pair in self.pairs):
            text.append("where there is one repeat, the spread is that of its steps alone\n", style="dim")
        text.rstrip()
        return text


def compare(a: Run, b: Run) -> Comparison:
    """Match the cells of two runs and hold each pair against each other."""
    left, right = list(a.cells), list(b.cells)
    pairs = _match(left, right, lambda cell: cell.id, "id")
    pairs += _match(left, right, _model_and_placement, "model and placement")
    order = {cell.id: n for n, cell in enumerate(a.cells)}
    return Comparison(a, b, sorted(pairs, key=lambda pair: order[pair.a.id]), left, right)


def _match(
    left: list[Cell],
    right: list[Cell],
    key: Callable[[Cell], str | None],
    how: Literal["id", "model and placement"],
) -> list[Pair]:
    """Take out of both lists, and pair, the cells whose key occurs once on each side."""
    pairs = []
    for a in list(left):
        name = key(a)
        candidates = [b for b in right if key(b) == name]
        if name is None or len(candidates) != 1 or sum(key(other) == name for other in left) != 1:
            continue
        left.remove(a)
        right.remove(candidates[0])
        pairs.append(_pair(a, candidates[0], how))
    return pairs


def _model_and_placement(cell: Cell) -> str | None:
    if "model" not in cell.resolved or "placement" not in cell.resolved:
        return None
    return cells.canonical(cell.resolved["model"], cells.batch(cell.resolved), cell.resolved["placement"])


def _pair(a: Cell, b: Cell, how: Literal["id", "model and placement"]) -> Pair:
    known = bool(a.repeats or a.failures) and bool(b.repeats or b.failures)
    flat_a, flat_b = cells.flat(a.resolved), cells.flat(b.resolved)
    keys = cells.differing([a.resolved, b.resolved]) if known else []
    clock: Clock = "model" if clock_of(a.repeats) == clock_of(b.repeats) == "model" else "guest"
    times_a, times_b = samples(a.repeats, clock), samples(b.repeats, clock)
    found = ratio(times_a, times_b)
    return Pair(
        a=a,
        b=b,
        matched=how,
        differs={key: (flat_a.get(key), flat_b.get(key)) for key in keys},
        clock=clock,
        before=summarise(times_a),
        after=summarise(times_b),
        ratio=found,
        losses=_losses(a, b),
        verdict=_verdict(a, b, found),
    )


def _losses(a: Cell, b: Cell) -> losses.Check:
    title = cells.label(a.resolved)
    if a.repeats and b.repeats and losses.key(a) != losses.key(b):
        return losses.Check(title, "NOTHING TO COMPARE", "model, batch or seed differ")
    sequences = [losses.sequence(a, repeat, side="A: ") for repeat in a.repeats]
    sequences += [losses.sequence(b, repeat, side="B: ") for repeat in b.repeats]
    if not a.repeats or not b.repeats:
        return losses.Check(title, "NOTHING TO COMPARE", "one side has no finished repeat")
    return losses.check(title, sequences)


def _verdict(a: Cell, b: Cell, found: Ratio | None) -> str:
    reasons = []
    if found is None:
        missing = [name for name, cell in (("A", a), ("B", b)) if not samples(cell.repeats, "guest")]
        return f"no verdict: no measured step in {' and '.join(missing)}"
    for name, cell in (("A", a), ("B", b)):
        if not throttled(cell.repeats):
            reasons.append(f"in {name} both nodes have the same speed")
    clocks = clock_of(a.repeats), clock_of(b.repeats)
    if clocks[0] != clocks[1]:
        reasons.append(f"the clocks differ (A {clocks[0]}, B {clocks[1]})")
    used = [sorted({repeat.provenance.accelerator for repeat in cell.repeats}) for cell in (a, b)]
    if used[0] != used[1] or len(used[0]) > 1:
        reasons.append(f"the accelerators differ (A {', '.join(used[0])}; B {', '.join(used[1])})")
    if reasons:
        return f"no verdict: {'; '.join(reasons)}"
    if not found.excludes_one:
        return "no difference seen"
    return "slower" if found.value > 1 else "faster"


def _row(pair: Pair) -> dict[str, Any]:
    r = pair.ratio
    return {
        "a": pair.a.id,
        "b": pair.b.id,
        "label": pair.label,
        "matched": pair.matched,
        "differs": {key: list(values) for key, values in pair.differs.items()},
        "clock": pair.clock,
        "a_ns": pair.before.centre_ns if pair.before else None,
        "b_ns": pair.after.centre_ns if pair.after else None,
        "ratio": r.value if r else None,
        "ratio_low": r.low if r else None,
        "ratio_high": r.high if r else None,
        "repeats": r.repeats if r else 0,
        "losses": pair.losses.outcome,
        "losses_text": pair.losses.text,
        "verdict": pair.verdict,
    }


def _named(cell: Cell) -> dict[str, str]:
    return {"cell": cell.id, "label": cells.label(cell.resolved)}
