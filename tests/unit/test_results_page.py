# SPDX-License-Identifier: Apache-2.0
"""The HTML page of a run: well-formed, self-contained, escaped."""

from __future__ import annotations

from pathlib import Path

import lxml.etree
import lxml.html
import pytest

from results import page
from results.notes import NO_PERFORMANCE
from results.runs import Run
from testbed.common.errors import UsageError
from tests.fakes.run_records import begin, cell_of, make_run

SVG = "{http://www.w3.org/2000/svg}"


def text_of(path: Path) -> str:
    """Return the text of a page with single spaces."""
    pieces = lxml.html.fromstring(path.read_text()).itertext()
    return " ".join(" ".join(pieces).split()).replace(" :", ":")


@pytest.mark.parametrize("kind", ["whole", "troubled"])
def test_page_is_well_formed_and_self_contained(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = page.write(request.getfixturevalue(kind), tmp_path / "out" / "report.html")
    source = path.read_text()
    tree = lxml.etree.fromstring(source.encode(), lxml.etree.XMLParser(recover=False, resolve_entities=False))
    assert len(list(tree.iter(f"{SVG}svg"))) == 2
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    for element in tree.iter():
        for name, value in element.attrib.items():
            if name.rpartition("}")[2] in ("href", "src"):
                assert value.startswith("#")
                assert value[1:] in ids
    assert not list(tree.iter("{*}script", "{*}link", "{*}img"))
    assert "#0a0" not in source  # no placeholder is left
    assert "url(http" not in source


def test_page_shows_figures_losses_and_provenance(whole: Run, tmp_path: Path) -> None:
    path = page.write(whole, tmp_path / "report.html")
    text = text_of(path)
    for expected in (
        "times by the model clock",
        "5.04 ms (4.91 to 5.16)",
        "equal resnet20 b8: 9 repeats, 8 steps, bit for bit",
        f"sentinel run suite.yaml --out runs/{whole.cells[1].id}",
        "git_commit 0123456789abcdef",
        "throttle.method timing-plugin",
        "4.9.0",
        "8.00 of 8.00 MiB",
        "Residency of tensors",
    ):
        assert expected in text
    assert NO_PERFORMANCE not in text.lower()
    content = path.read_bytes()
    assert page.write(whole, path).read_bytes() == content


def test_page_shows_failures_and_escapes_names(troubled: Run, tmp_path: Path) -> None:
    path = page.write(troubled, tmp_path / "report.html")
    text = text_of(path)
    assert "Not performance measurements: both nodes are equally fast." in text
    assert "differ resnet20 b8: at step 4" in text
    assert "not compared a<b>&$x_1$ b8: one repeat" in text
    assert "Oops:[31m <at> & [bold]mm/migrate.c[/bold]" in text
    assert f"cells/{troubled.cells[0].id}/000.failed-1" in text
    assert "suite <script>" in text


def test_page_of_a_run_without_repeats(tmp_path: Path) -> None:
    begin(tmp_path / "run", [cell_of("lstm", "fast-only")])
    path = page.write(Run.load(tmp_path / "run"), tmp_path / "report.html")
    assert "No finished repeats yet." in text_of(path)


def test_page_refuses_paths_that_cannot_be_written(whole: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        page.write(whole, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        page.write(whole, tmp_path / "file" / "report.html")


def test_page_without_tensor_statistics_shows_the_process(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", models=("lstm",), tensor_statistics=False)
    text = text_of(page.write(run, tmp_path / "page.html"))
    assert "Residency of the process" in text and "Residency of tensors" not in text
