"""The page docs/reference/papers.md: publications, what is built after them, its file, checks and figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import reprise
import stages
from reprise.config.plug_ins.docstrings import checks_in, documentation_of, first_paragraph, is_publication, source_in
from stages.check.description.reference import COMMAND, markdown_cell

FILE = Path("docs/reference/papers.md")
_UP = "../" * (len(FILE.parts) - 1)
_INTRODUCTION = """\
Each row is a file that is built after a publication, with the tests that hold it to what the publication says, and the
page with a figure of what it achieves here. An empty last cell means that no such figure was measured. The file opens
with the idea, the formula and every known deviation, and says what could not be verified against the paper.
"""


class Sourced(NamedTuple):
    """A file with a publication: relative to the repository, and what its docstring says."""

    file: str
    source: str
    title: str
    tests: tuple[str, ...]
    figures: tuple[str, ...]


def sourced_files() -> list[Sourced]:
    """Collect the modules of Reprise whose docstrings name a publication, by its first author."""
    root = Path(reprise.__file__).parents[1]
    found = []
    for package in (reprise, stages):
        for file in sorted(Path(package.__file__ or "").parent.rglob("*.py")):
            documentation = documentation_of(file)
            source = source_in(documentation)
            if not is_publication(source):
                continue
            checks = checks_in(documentation)
            figures = tuple(entry for entry in checks if entry.startswith("docs/"))
            tests = tuple(entry for entry in checks if entry not in figures)
            title = first_paragraph(documentation).rstrip(".")
            found.append(Sourced(file.relative_to(root).as_posix(), source, title, tests, figures))
    return sorted(found, key=lambda row: (row.source.casefold(), row.file))


def papers_page() -> str:
    """Return the page as Markdown."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield from (f"<!-- Written by `{COMMAND}`; do not edit. -->", "# Papers", "", _INTRODUCTION)
    yield "| publication | what is built | file | checked by | figure |"
    yield "|---|---|---|---|---|"
    for row in sourced_files():
        name = row.file.rpartition("/")[2]
        cells = [markdown_cell(row.source), markdown_cell(row.title), _link(f"`{name}`", row.file)]
        cells += ["; ".join(map(_entry, entries)) for entries in (row.tests, row.figures)]
        yield f"| {' | '.join(cells)} |"


def _entry(entry: str) -> str:
    file, _, remark = entry.partition(" ")
    return f"{_link(markdown_cell(file.rpartition('/')[2]), file)} {markdown_cell(remark)}".rstrip()


def _link(text: str, file: str) -> str:
    return f"[{text}]({_UP}{file})"
