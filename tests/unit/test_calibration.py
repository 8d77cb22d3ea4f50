# SPDX-License-Identifier: Apache-2.0
"""Calibration: closed forms and evaluation of probe rows. Starts no machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import boot, provenance
from results.plots import calibration as calibration_plots
from sentinel.cli import main
from testbed import machine, vm
from testbed.common.cache import Cache
from testbed.common.errors import InfrastructureError, UsageError
from testbed.host.remote_memory import RemoteMemory
from testbed.timing import calibration, counters, expected, measurement, preset
from testbed.timing.calibration import Calibration
from testbed.vm import Boot

OPTANE = preset.load("optane-6dimm")
MIB = 1 << 20


def row(what: str, node: int, ns: float, size: int = 48 * MIB, **more: Any) -> dict[str, Any]:
    dilation = more.get("dilation", 0.0)
    clocks = {"model_ns": ns, "guest_ns": ns * (dilation or 7)}
    defaults = {"dilation": 0.0, "needed": 500.0, "behind": 0.0}
    return {"what": what, "node": node, "size": size, **clocks, **defaults, **more}


def perfect(**more: Any) -> list[dict[str, Any]]:
    """The probe's rows for a machine that matches its preset exactly."""
    rows = []
    for node in (0, 1):
        rows += [
            row("read_latency", node, 0.1, 65536, **more),
            row("read_latency", node, expected.read_latency(OPTANE, node), **more),
            row("chase", node, expected.read_latency(OPTANE, node), **more),
            row("write_latency", node, expected.write_latency(OPTANE, node), **more),
            row("read", node, 48 * MIB / expected.read(OPTANE, node), **more),
            row("write", node, 48 * MIB / expected.write(OPTANE, node), **more),
        ]
        if more:
            continue
        compute, helper = expected.shared(OPTANE, node)
        moving, moved = expected.migrating(OPTANE, node, 1 - node)
        rows += [
            row("copy", node, 48 * MIB / expected.copy(OPTANE, node, 1 - node), to=1 - node),
            row("shared", node, 48 * MIB / compute, helper=helper),
            row("loaded", node, 120.0 * (node + 1), 1280000, cpu=1, pause=25, helper=5.0),
            row("loaded", node, 100.0 * (node + 1), 1280000, cpu=1, pause=0, helper=0.0),
            row("migrate", node, expected.migrate(OPTANE, node, 1 - node), to=1 - node),
            row("migrating", node, 48 * MIB / moving, to=1 - node, helper=moved),
        ]
    return rows


def evaluated(rows: list[dict[str, Any]]) -> Calibration:
    return calibration.evaluate(OPTANE, rows, key="0" * 64, created="2026-01-02")


def test_closed_forms() -> None:
    assert expected.read(OPTANE, 1) == pytest.approx(39.4)
    assert expected.copy(OPTANE, 0, 0) == pytest.approx(1 / (1 / 105 + 1 / 85))
    assert expected.copy(OPTANE, 0, 1) == pytest.approx(13.9)
    assert expected.copy(OPTANE, 1, 0) == pytest.approx(39.4)
    assert expected.migrate(OPTANE, 0, 1) == pytest.approx(1500 + 64 * 100 / 10)
    assert expected.migrate(OPTANE, 1, 0) == pytest.approx(1500 + 64 * 305 / 10)
    for node in (0, 1):
        compute, helper = expected.shared(OPTANE, node)
        assert compute + helper == pytest.approx(expected.read(OPTANE, node))
        alone = 64 / (OPTANE.nodes[node].read_latency / 10)
        assert 0.9 * alone < helper < alone  # queueing on a busy node


@pytest.mark.parametrize("name", preset.names())
def test_every_preset_can_use_its_bandwidth(name: str) -> None:
    """Otherwise no program could reach its figures."""
    memory_preset = preset.load(name)
    for node in (0, 1):
        assert expected.read(memory_preset, node) == pytest.approx(memory_preset.nodes[node].read_bandwidth)


def test_exact_machine_is_good() -> None:
    result = evaluated(perfect())
    assert result.good
    assert not result.nodes_alike
    assert (result.mode, result.dilation) == ("synchronised", 0)
    assert len(result.figures) == 26
    assert max(abs(figure.error) for figure in result.figures) < 1e-9
    assert result.latency_by_size(1) == [(65536, 0.1), (48 * MIB, 305.0)]
    assert result.latency_by_load(0) == [(0.0, 100.0), (5.0, 120.0)]


@pytest.mark.parametrize(
    ("what", "factor", "good"),
    [
        ("read_latency", 1.02, True),
        ("read_latency", 1.04, False),
        ("chase", 1.04, False),
        ("write", 1.04, True),
        ("write", 1.06, False),
        ("migrate", 0.94, False),
    ],
)
def test_error_bounds(what: str, factor: float, good: bool) -> None:
    rows = perfect()
    for r in rows:  # both nodes, so that the ratio stays
        if r["what"] == what:
            r["model_ns"] *= factor
    assert evaluated(rows).good is good


def test_ratio_has_its_own_bound() -> None:
    rows = perfect()
    next(r for r in rows if (r["what"], r["node"]) == ("read", 1))["model_ns"] *= 1.03
    result = evaluated(rows)
    assert [figure.name for figure in result.figures if not figure.good] == ["read, node 1 / node 0"]
    assert result.worst.name == "read, node 1 / node 0"


def test_paced_figures_use_the_guest_clock() -> None:
    rows = perfect(dilation=600.0)
    for r in rows:
        r["model_ns"] = 1.0
    assert evaluated(rows).good
    late = next(r for r in rows if r["what"] == "write_latency")
    late["behind"] = 0.02
    result = evaluated(rows)
    assert [figure.name for figure in result.figures if not figure.good] == [
        "node 0 write latency",
        "write latency, node 1 / node 0",
    ]
    again = {**late, "behind": 0.001}
    assert evaluated([*rows, again]).good  # the repeated measurement counts
    assert evaluated([again, *rows]).good  # whichever order: the smaller delay counts


@pytest.mark.parametrize(("behind", "good"), [((0.006, 0.003), True), ((0.006, 0.006), False)])
def test_ratio_adds_the_delays_of_its_figures(behind: tuple[float, float], good: bool) -> None:
    rows = perfect(dilation=600.0)
    for r in rows:
        if r["what"] == "write":
            r["behind"] = behind[r["node"]]
    assert evaluated(rows).good is good


@pytest.mark.parametrize(("slowness", "reliable"), [(500, True), (5000, True), (50_000, False)])
def test_slow_host_makes_figures_unreliable(
    slowness: float, reliable: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = perfect()
    for r in rows:
        r["guest_ns"] = r["model_ns"] * slowness
        if (r["what"], r["node"]) == ("read", 0):
            r["model_ns"] *= 1.06
    result = evaluated(rows)
    bad = [figure for figure in result.figures if not figure.good]
    assert [figure.name for figure in bad] == ["node 0 read", "read, node 1 / node 0"]
    assert [figure.reliable for figure in bad] == [reliable, reliable]
    calibration.report(result)
    assert ("on this slow host timer interrupts add" in capsys.readouterr().err) is not reliable


def test_equal_nodes_are_detected() -> None:
    rows = [r for r in perfect() if r["node"] == 0]
    result = evaluated(rows + [{**r, "node": 1} for r in rows])
    assert result.nodes_alike
    assert not result.good
    throttle = provenance.throttle(OPTANE, result)
    assert not throttle.is_slow
    assert throttle.model_dump()["calibrated"] is False


def test_result_records_its_calibration() -> None:
    throttle = provenance.throttle(OPTANE, evaluated(perfect())).model_dump()
    assert throttle["calibrated"] is True
    assert throttle["calibration"]["figures"]["node 1 read latency"] == {
        "unit": "ns",
        "expected": 305,
        "measured": 305,
    }


def test_remote_node_is_measured_without_a_preset() -> None:
    result = calibration.evaluate(None, perfect(), key="0", created="now")
    assert result.measured(1) == pytest.approx({"read_latency": 305, "read": 39.4, "write": 13.9})
    throttle = provenance.throttle(None, result, RemoteMemory((0, 1), (0, 1)))
    assert (throttle.method, throttle.is_slow) == ("remote-node", True)
    assert not provenance.throttle(None).is_slow


def test_memory_mode_has_no_closed_form() -> None:
    near = OPTANE.model_copy(update={"memory_mode": True})
    result = calibration.evaluate(near, perfect(), key="0", created="now")
    assert result.figures == ()
    assert provenance.throttle(near, result).model_dump()["calibrated"] is False


# ---------------------------------------------------------------- measuring


class Shell:
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.commands: list[str] = []

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def put(self, source: Path, target: str) -> None:
        assert source.read_bytes()[:4] == b"\x7fELF"

    def run(self, command: str, *, on_line: Any, **_: Any) -> None:
        self.commands.append(command)
        for r in self.rows:
            on_line(json.dumps(r))


class Guest:
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.shells = Shell(rows)

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_ready(self) -> None:
        pass

    def shell(self) -> Shell:
        return self.shells


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Guest:
    result = Guest(perfect())
    monkeypatch.setattr(vm, "running", lambda *_, **__: result)
    monkeypatch.setattr(measurement, "key", lambda boot, mode: mode.ljust(64, "0"))
    return result


def a_boot(folder: Path, name: str = "two-node") -> Boot:
    kernel = folder / "bzImage"
    kernel.write_bytes(b"kernel")
    return Boot(machine.load(name), kernel, folder / "disk", "tcg", preset=OPTANE)


def test_calibration_is_cached(guest: Guest, tmp_path: Path) -> None:
    for _ in range(2):
        assert measurement.calibrate(a_boot(tmp_path), cache=Cache()).good
    assert guest.shells.commands == [f"/run/probe full {MIB} {48 * MIB}"]
    measurement.calibrate(a_boot(tmp_path), cache=Cache(), again=True)
    assert len(guest.shells.commands) == 2


def test_calibration_refuses_unsuitable_machines(tmp_path: Path) -> None:
    small = machine.Machine.model_validate(
        {"vcpus": 1, "nodes": [{"memory": "1 GiB", "cpus": [0]}, {"memory": "128 MiB"}]}
    )
    with pytest.raises(UsageError, match=r"needs nodes of at least 192 MiB; the smallest node has 128 MiB"):
        measurement.calibrate(Boot(small, tmp_path, tmp_path, "tcg", preset=OPTANE), cache=Cache())
    with pytest.raises(UsageError, match="needs a machine with a preset"):
        measurement.calibrate(Boot(small, tmp_path, tmp_path, "tcg"), cache=Cache())


def test_calibrate_command(
    guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Made:
        boot = a_boot(tmp_path)

    monkeypatch.setattr(boot, "prepare", lambda *_, **__: Made)
    plots = tmp_path / "plots"
    words = ["calibrate", "--preset", "optane-6dimm"]
    assert main._run([*words, "--plots", str(plots)], debug=False) == 0
    output = capsys.readouterr().out
    assert "node 1 write latency" in output
    assert "synchronised" in output
    assert {path.name for path in plots.iterdir()} == {"latency.svg", "load.svg"}
    guest.shells.rows[1]["model_ns"] *= 2
    assert main._run([*words, "--again", "--json"], debug=False) == 9
    assert json.loads(capsys.readouterr().out)["good"] is False


def test_paced_calibration_has_no_curves(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no curves"):
        calibration_plots.write(evaluated(perfect(dilation=600.0)), tmp_path)


# ---------------------------------------------------------------- counters


def line(marker: int, **vcpu: Any) -> str:
    return json.dumps({"marker": marker, "vcpu": 0, "ns": 1.0, "vcpus": [{"vcpu": 0, **vcpu}]}) + "\n"


def test_counters_are_summed_by_step(tmp_path: Path) -> None:
    path = tmp_path / "counters.jsonl"
    text = line(1, ns=0, read=[0, 0]) + line(3, ns=5, read=[1, 1]) + line(4, ns=9, read=[4, 2])
    path.write_text(text + line(3, ns=10, read=[4, 2]))
    assert list(counters.steps(path)) == [{"ns": 4, "read": [3, 1]}]


@pytest.mark.parametrize(
    "text", ["", line(1), line(1) + line(2)[:20], line(2) + line(1)], ids=["none", "open", "torn", "second"]
)
def test_incomplete_counters_are_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "counters.jsonl"
    path.write_text(text)
    with pytest.raises(InfrastructureError, match="counters are incomplete"):
        counters.check(path)
    path.write_text(line(1) + line(2))
    counters.check(path)
