"""Names of the project that a shell completes. A shell shows no errors: what cannot be read completes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from pipeline.cli.project import find_project
from reprise.config.errors import RepriseError
from reprise.config.params import PARAMS_FILE, read_yaml
from reprise.config.plug_ins.registry import kinds


def runs(incomplete: str) -> list[str]:
    """Complete the name of a run of the project around the current folder."""
    return sorted(name for name in _rows() if name.startswith(incomplete))


def kinds_of_plug_ins(incomplete: str) -> list[str]:
    """Complete a kind of plug-in."""
    return [kind for kind in (*kinds(), "presets") if kind.startswith(incomplete)]


def _rows() -> Iterator[str]:
    with suppress(RepriseError, OSError):
        folder = find_project()
        raw = read_yaml(folder / PARAMS_FILE) if folder is not None else {}
        for table in ("runs", "adapt"):
            listed = raw.get(table)
            for row in listed if isinstance(listed, list) else ():
                name = row.get("name") if isinstance(row, dict) else None
                if isinstance(name, str) and name.isprintable():
                    yield name
