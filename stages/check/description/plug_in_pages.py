"""The pages docs/reference/plug-ins/*.md: all plug-ins of Reprise, a page a kind, a chapter a family."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from reprise.config.plug_ins.docstrings import MEANINGS, OURS, PlugInFacts, facts_of
from reprise.config.plug_ins.registry import KINDS, kinds, location, names
from reprise.storage.atomic import atomic_directory
from stages.check.description.reference import COMMAND, heading, markdown_cell

FOLDER = Path("docs/reference/plug-ins")
_UP = "../" * len(FOLDER.parts)
_NOTE = f"<!-- Written by `{COMMAND}`; do not edit. -->"


def pages() -> dict[str, str]:
    """Return the pages as Markdown by their files' names: `index.md`, and one for each kind of plug-in."""
    ours = {top: _facts(top) for top in KINDS}
    ours = {top: found for top, found in ours.items() if found}
    return {"index.md": _text(_index(ours)), **{f"{top}.md": _text(_page(top, found)) for top, found in ours.items()}}


def write_pages(folder: Path) -> None:
    """Write all pages, and remove those of kinds that are gone."""
    with atomic_directory(folder) as partial:
        for name, text in pages().items():
            (partial / name).write_text(text, encoding="utf-8")


def _facts(top: str) -> list[PlugInFacts]:
    """Collect our own plug-ins of a kind, those of all suites for probes, sorted by family."""
    found = [facts_of(kind, name) for kind in kinds() if kind.partition("/")[0] == top for name in names(kind)]
    return sorted((facts for facts in found if facts.origin == OURS), key=lambda f: (f.kind, f.family, f.name))


def _text(lines: Iterator[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


def _index(ours: dict[str, list[PlugInFacts]]) -> Iterator[str]:
    yield from (_NOTE, "# Plug-ins", "")
    yield "`reprise list KIND` prints these tables for one kind, with your own plug-ins; `--json` is for programs."
    yield "The last columns count how far plug-ins have been checked:"
    yield ""
    yield from (f"- **{word}**: {meaning}" for word, meaning in MEANINGS.items() if _count(ours, word))
    words = [word for word in MEANINGS if _count(ours, word)]
    yield from ("", f"| kind | plug-ins | {' | '.join(words)} |", f"|---|---|{'---|' * len(words)}")
    for top, found in ours.items():
        counts = Counter(facts.maturity for facts in found)
        cells = [f"[{heading(top)}]({top}.md)", str(len(found)), *(str(counts[word] or "") for word in words)]
        yield f"| {' | '.join(cells)} |"


def _count(ours: dict[str, list[PlugInFacts]], word: str) -> int:
    return sum(facts.maturity == word for found in ours.values() for facts in found)


def _page(top: str, found: list[PlugInFacts]) -> Iterator[str]:
    yield from (_NOTE, f"# {heading(top)}", "")
    yield f"`reprise list {top}` prints these tables with your own plug-ins, `reprise params NAME` prints the"
    yield "parameters of one. [The index](index.md) says what the last column means."
    for (kind, family), members in groupby(found, key=lambda facts: (facts.kind, facts.family)):
        chapter = kind.partition("/")[2] or family
        yield from (["", f"## {chapter.replace('_', ' ')}", ""] if chapter else [""])
        yield "| name | what it is | source | checked by | maturity |"
        yield "|---|---|---|---|---|"
        for facts in members:
            file = _link(f"`{facts.name}`", _in_repository(location(facts.kind, facts.name)))
            checked = "; ".join(map(_checked, facts.checked_by))
            cells = [file, markdown_cell(facts.description), markdown_cell(facts.source), checked, facts.maturity]
            yield f"| {' | '.join(cells)} |"


def _in_repository(file: Path) -> str:
    """Return the path of one of our own files as it stands in the repository."""
    top = next(index for index, part in reversed(list(enumerate(file.parts))) if part in ("reprise", "stages"))
    return "/".join(file.parts[top:])


def _checked(entry: str) -> str:
    """Return a file that checks a plug-in as a link with the last part of its path, and its remark."""
    file, _, remark = entry.partition(" ")
    return f"{_link(markdown_cell(file.rpartition('/')[2]), file)} {markdown_cell(remark)}".rstrip()


def _link(text: str, file: str) -> str:
    return f"[{text}]({_UP}{file})"
