# SPDX-License-Identifier: Apache-2.0
"""Config fragments: merging, ranges, what kconfig granted, and the fragments that are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel import config
from kernel.versions import Version, parse
from testbed.common.errors import BuildError, UsageError

V4_9, V6_1 = parse("4.9"), parse("6.1.192")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.config").write_text(
        '# why\n\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_N=8\nCONFIG_S="a b"\nCONFIG_NEW=y  # since 5.2\n'
        "CONFIG_OLD=y  # until 5.2\nCONFIG_MID=y # since 4.9 until 4.10\n"
    )
    (tmp_path / "debug.config").write_text("CONFIG_A=n\nCONFIG_D=y\n")
    (tmp_path / "expected.yaml").write_text("expected: []\n")
    return tmp_path


def values(folder: Path, *flavour: str, version: str = "4.9") -> dict[str, str]:
    requests = config.merged(flavour, version=parse(version), folder=folder)
    return {symbol.removeprefix("CONFIG_"): r.value for symbol, r in requests.items()}


def test_later_fragments_override_and_ranges_select(folder: Path) -> None:
    base = {"A": "y", "B": "n", "N": "8", "S": '"a b"'}
    assert values(folder, "base") == base | {"OLD": "y", "MID": "y"}
    assert values(folder, "base", version="4.10") == base | {"OLD": "y"}
    assert values(folder, "base", version="6.1") == base | {"NEW": "y"}
    assert values(folder, "base", "debug", version="6.1") == base | {"NEW": "y", "A": "n", "D": "y"}


def test_text_has_the_format_of_kconfig(folder: Path) -> None:
    text = config.text(config.merged(["base"], version=V6_1, folder=folder))
    assert text == 'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=8\nCONFIG_NEW=y\nCONFIG_S="a b"\n'
    assert config.parse(text) == {
        "CONFIG_A": "y",
        "CONFIG_B": "n",
        "CONFIG_N": "8",
        "CONFIG_NEW": "y",
        "CONFIG_S": '"a b"',
    }


def test_symbols_are_left_out_of_a_config() -> None:
    text = '# CONFIG_AB: why\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_AB=m\nCONFIG_S="CONFIG_A=y"\n'
    left = config.without(text, {"CONFIG_A": 1, "CONFIG_B": 2})
    assert left == '# CONFIG_AB: why\nCONFIG_AB=m\nCONFIG_S="CONFIG_A=y"\n'


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("CONFIG_A", "must be CONFIG_X=value"),
        ("A=y", "must be CONFIG_X=value"),
        ("# CONFIG_A is not set\nCONFIG_B y", "base.config:2: must be CONFIG_X=value"),
        ("CONFIG_A=y # because", "must be a range of versions"),
        ("CONFIG_A=y # since five", "must name versions"),
    ],
)
def test_mistakes_have_a_place(folder: Path, line: str, problem: str) -> None:
    (folder / "base.config").write_text(line + "\n")
    with pytest.raises(UsageError, match=problem) as caught:
        values(folder, "base")
    assert str(folder / "base.config") in caught.value.message


def test_an_unknown_fragment_lists_the_known_ones(folder: Path) -> None:
    with pytest.raises(UsageError, match="unknown config fragment 'fast'") as caught:
        values(folder, "fast")
    assert caught.value.hint == f"in {folder}: base, debug"


def test_a_refused_symbol_is_an_error(folder: Path) -> None:
    requests = config.merged(["base"], version=V6_1, folder=folder)
    granted = config.text(requests)
    config.check(requests, granted, version=V6_1, folder=folder)
    config.check(requests, granted.replace("# CONFIG_B is not set\n", ""), version=V6_1, folder=folder)
    for old, new, told in (
        ("CONFIG_A=y", "", r"CONFIG_A=y \(requested at .*base.config:3, got nothing\)"),
        ("CONFIG_A=y", "# CONFIG_A is not set", r"CONFIG_A=y .* got n\)"),
        ("# CONFIG_B is not set", "CONFIG_B=y", r"CONFIG_B=n .* got y\)"),
        ("CONFIG_N=8", "CONFIG_N=64", r"CONFIG_N=8 .* got 64\)"),
    ):
        with pytest.raises(BuildError, match=told):
            config.check(requests, granted.replace(old, new), version=V6_1, folder=folder)


def test_expected_refusals_apply_in_their_range_only(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "expected.yaml").write_text(
        'expected:\n  - {symbol: CONFIG_A, since: "4.9", until: "4.10", reason: not there yet}\n'
    )
    for version, excused in ((V4_9, True), (V6_1, False)):
        requests = config.merged(["base"], version=version, folder=folder)
        got = config.text(requests).replace("CONFIG_A=y\n", "")
        if excused:
            config.check(requests, got, version=version, folder=folder)
        else:
            with pytest.raises(BuildError, match="CONFIG_A"):
                config.check(requests, got, version=version, folder=folder)
    assert "warning" not in capsys.readouterr().err
    requests = config.merged(["base"], version=V4_9, folder=folder)
    config.check(requests, config.text(requests), version=V4_9, folder=folder)
    assert "lists CONFIG_A as refused" in capsys.readouterr().err


@pytest.mark.parametrize("version", [V4_9, V6_1])
def test_shipped_fragments_request_what_the_testbed_needs(version: Version) -> None:
    assert set(config.DEFAULT) < set(config.fragments())
    wanted = {s: r.value for s, r in config.merged(config.DEFAULT, version=version).items()}
    for symbol in (
        *("NUMA", "MIGRATION", "NUMA_BALANCING", "MEMCG", "CPUSETS", "IDLE_PAGE_TRACKING", "HUGETLBFS"),
        *("VIRTIO_BLK", "VIRTIO_NET", "EXT4_FS", "IP_PNP", "UNIX98_PTYS", "DEVTMPFS_MOUNT", "SECCOMP_FILTER"),
        *("FW_CFG_SYSFS", "HW_RANDOM_VIRTIO", "NET_9P_VIRTIO", "DETECT_HUNG_TASK", "LOCKUP_DETECTOR"),
    ):
        assert wanted[f"CONFIG_{symbol}"] == "y", symbol
    for symbol in ("MODULES", "RELOCATABLE", "STACK_VALIDATION", "LOCALVERSION_AUTO"):
        assert wanted[f"CONFIG_{symbol}"] == "n", symbol
    assert ("CONFIG_ACPI_HMAT" in wanted) == (version == V6_1)
    debug = config.merged([*config.DEFAULT, "debug"], version=version)
    assert debug["CONFIG_PROVE_LOCKING"].value == "y"
    assert ("CONFIG_KASAN" in debug) == (version == V6_1)


def test_shipped_fragments_request_each_symbol_once() -> None:
    for name in config.fragments():
        path = config.path_of(name)
        assert path.read_text().splitlines()[0].split(": ") == ["# SPDX-License-Identifier", "GPL-2.0-only"]
        for version in (V4_9, V6_1):
            symbols = [r.symbol for r in config._read(path, version)]
            assert len(symbols) == len(set(symbols)), name
