# SPDX-License-Identifier: Apache-2.0
"""The documentation says what the program does."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sentinel.cli.main import cli
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
    from experiments import matrix, slurm_job

    for page, load in (("suites.md", matrix.load), ("machines.md", lambda path: machine.load(str(path)))):
        (tmp_path / "my" / "data").mkdir(parents=True, exist_ok=True)
        (tmp_path / "my" / "train.py").touch()
        examples = re.findall(r"```yaml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
        assert examples
        for example in examples:  # one may extend the one before
            name = re.match(r"name: (\S+)", example)
            path = tmp_path / f"{name[1] if name else page}.yaml"
            path.write_text(example)
            (slurm_job.load if example.startswith("walltime") else load)(path)


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of all commands of the program in a page's shell blocks."""
    for block in re.findall(r"^```(?:sh|console)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        script = re.sub(r"<<'EOF'.*?^EOF$", "", block, flags=re.MULTILINE | re.DOTALL).replace("\\\n", " ")
        for line in script.splitlines():
            lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;<>")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in (*lexer, ";"):
                if word[0] not in "|&;<>":
                    words.append(word)
                    continue
                if words[:1] in (["sentinel"], [".venv/bin/sentinel"]):
                    yield words[1:]
                words = []


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda page: page.stem)
def test_the_commands_in_the_documentation_exist(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program parses every command with its options; none is executed."""
    monkeypatch.setattr(click.Command, "invoke", lambda *_: None)
    for words in commands(page):
        try:
            cli.main(words, prog_name="sentinel", standalone_mode=False)
        except click.ClickException as e:
            pytest.fail(f"sentinel {shlex.join(words)}: {e.format_message()}")
