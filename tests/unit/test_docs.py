# SPDX-License-Identifier: Apache-2.0
"""The documentation says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from testbed import machine
from testbed.common import settings
from testbed.common.errors import ExitCode

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"


def test_the_exit_codes_are_the_programs() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", (DOCS / "failures.md").read_text(), re.MULTILINE)
    assert rows == [(str(code.value), code.doc) for code in ExitCode]


@pytest.mark.parametrize("setting", settings.ALL, ids=lambda setting: setting.env)
def test_every_setting_is_documented(setting: settings.Setting) -> None:
    assert f"`{setting.env}`" in (DOCS / "index.md").read_text()


def test_the_readme_links_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = {target for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", readme) if "://" not in target}
    assert [target for target in targets if not (ROOT / target).exists()] == []
    assert targets >= {f"docs/{page.name}" for page in DOCS.glob("*.md")}


def test_the_suite_and_machine_in_the_documentation_are_valid(tmp_path: Path) -> None:
    from experiments import matrix

    for page, load in (("suites.md", matrix.load), ("machines.md", lambda path: machine.load(str(path)))):
        (example,) = re.findall(r"```yaml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
        path = tmp_path / page.replace(".md", ".yaml")
        path.write_text(example)
        (tmp_path / "my" / "data").mkdir(parents=True, exist_ok=True)
        (tmp_path / "my" / "train.py").touch()
        load(path)
