# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration; `make docs` builds the pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import metadata

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from experiments import models, policies
from results import frames


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    cells = [list(columns)]
    cells += [["---"] * len(cells[0]), *map(list, rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


project = "Sentinel testbed"
author = "The Sentinel testbed authors"
release = metadata.version("sentinel-testbed")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click", "sphinx_copybutton"]
exclude_patterns = ["_build"]
nitpicky = True
# Signatures show all types, but only some have an entry in the API page.
nitpick_ignore_regex = [("py:class", ".*")]
default_role = "code"  # of single backticks in docstrings
autodoc_typehints = "description"
autodoc_member_order = "bysource"

myst_enable_extensions = ["colon_fence", "deflist", "substitution"]
myst_heading_anchors = 4


def _published() -> Iterator[tuple[str, str, str, str]]:
    """The published numbers of trainable parameters."""
    for model in models.registry().values():
        for size in model.published:
            parameters = ", ".join(f"{key}: {value}" for key, value in size.parameters.items())
            yield f"`{model.name}`", f"`{size.configuration}`", parameters, size.trainable


# Tables of what suites can name: {{ policies }}, {{ models }} and {{ published }}
myst_substitutions = {
    "policies": _table(
        ("policy", "description", "needs", "source"),
        ((f"`{p.name}`", p.description, p.requirements, p.source) for p in policies.registry().values()),
    ),
    "models": _table(
        ("model", "description", "parameters"),
        ((f"`{m.name}`", m.description, m.parameter_list()) for m in models.registry().values()),
    ),
    "published": _table(("model", "configuration", "with", "trainable parameters"), _published()),
}

html_theme = "furo"
html_title = f"{project} {release}"
html_show_copyright = False
copybutton_prompt_text = "$ "


def _examples_as_code(_app: Sphinx, ctx: click.Context, lines: list[str]) -> None:
    """Keep the columns of the examples and exit codes in a command's help."""
    lines.clear()
    for block in (ctx.command.epilog or "").split("\b\n")[1:]:
        heading, *examples = block.strip("\n").splitlines()
        lines += [f"**{heading}**", "", ".. code-block:: text", "", *(f"   {line}" for line in examples), ""]


class _Columns(SphinxDirective):
    """The columns of a frame of `results.load`, from its schema."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        rows = [f"| `{f.name}` | {f.dtype} | {f.meaning} |" for f in frames.SCHEMAS[self.arguments[0]]]
        return self.parse_text_to_nodes("\n".join(["| column | type | meaning |", "|---|---|---|", *rows]))


def setup(app: Sphinx) -> None:
    """Register the extension hooks."""
    app.add_directive("columns", _Columns)
    app.connect("sphinx-click-process-epilog", _examples_as_code)
