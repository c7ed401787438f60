"""The page docs/reference/parameters.md: every parameter of everything that is part of Reprise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reprise.config.plug_ins.registry import KINDS, origin
from stages.check.description.parameter_list import SECTION, Parameter, Subject, describe, subjects

COMMAND = "make docs"
_INTRODUCTION = """\
Every parameter of `params.yaml`, by section, and of every plug-in. `reprise params NAME` prints the same for one
of them, your own plug-ins included. In the names of parameters, `<name>` stands for the name of a row.
"""
_HEADS = {
    "sources": "Sources of images",
    "extractors": "Extractors",
    "miners": "Miners",
    "models": "Models",
    "methods": "Methods",
    "changes": "Changes of images",
    "backbones": "Backbones",
    "schedules": "Learning-rate schedules",
    "sections": "Sections of the report",
}


def page() -> str:
    """Return the page as Markdown."""
    lines = [f"<!-- Written by `{COMMAND}`; do not edit. -->", "# Parameters", "", _INTRODUCTION]
    for kind, names in subjects().items():
        found = [describe(kind, name) for name in names if kind == SECTION or origin(kind, name) == "Reprise"]
        lines += _chapter(kind, [subject for subject in found if subject.parameters])
    return "\n".join(lines).rstrip() + "\n"


def heading(kind: str) -> str:
    """Return the heading above the plug-ins of a kind ("miners" -> "Miners", "probes/quality" -> "Probes: quality")."""
    top, _, suite = kind.partition("/")
    return _HEADS.get(kind) or top.capitalize() + (f": {suite}" if suite else "")


def _chapter(kind: str, subjects_of_kind: list[Subject]) -> Iterator[str]:
    if not subjects_of_kind:
        return
    head = "Sections of params.yaml" if kind == SECTION else heading(kind)
    yield from (f"## {head}", "")
    shared = _shared(kind, subjects_of_kind)
    if shared:
        yield from (f"Every {KINDS[kind].noun} has these:", "", *_table(shared), "")
    for subject in subjects_of_kind:
        own = [p for p in subject.parameters if p not in shared]
        yield from (f"### {subject.name}", "")
        for sentence in filter(None, [subject.title, *subject.notes]):
            yield from (sentence, "")
        if own:
            yield from (*_table(own), "")


def _shared(kind: str, subjects_of_kind: list[Subject]) -> list[Parameter]:
    """Find the parameters that all plug-ins of a kind have in the same form; sections share none."""
    if kind == SECTION or len(subjects_of_kind) < 3:
        return []
    first, *others = subjects_of_kind
    return [p for p in first.parameters if all(p in other.parameters for other in others)]


def _table(parameters: Iterable[Parameter]) -> Iterator[str]:
    yield "| parameter | values | default | meaning |"
    yield "|---|---|---|---|"
    for p in parameters:
        values = f"{p.values} ({p.unit})" if p.unit else p.values
        default = p.default if p.default == "required" else f"`{p.default}`"
        cells = (f"`{p.name}`", values, default, f"{p.meaning} {p.note}".strip())
        yield "| " + " | ".join(map(markdown_cell, cells)) + " |"


def markdown_cell(text: str) -> str:
    """Escape what Markdown would take for the end of a cell or, outside of code, for an HTML tag."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part.replace("<", "&lt;") if n % 2 == 0 else part for n, part in enumerate(parts))
