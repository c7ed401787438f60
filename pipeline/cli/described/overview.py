"""What `reprise --help` shows: all commands by what they are for, each with its whole first sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Begin": ("init", "check", "doctor"),
    "Run the graph": ("repro", "why", "runs", "status", "scan", "prune"),
    "Look up names and parameters": ("list", "params"),
    "Compare": ("compare", "history", "gate", "sweep", "compare-representations"),
    "Look at images": ("views", "clusters", "search", "drift", "croissant"),
    "Use a backbone": ("predict", "embed", "probe", "export", "promote", "track"),
    "Share results": ("push", "pull", "get", "verify"),
    "Schedules and machines": ("flows", "worker"),
}
BEGIN = (
    "Begin with `reprise init FOLDER --images PHOTOS`, and run `reprise repro` in that folder. "
    "`reprise COMMAND --help` says more of each command."
)


class Overview(typer.core.TyperGroup):
    """The group of all commands."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the sections; a command that none of them names would be missing (a test compares)."""
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, summary(self.commands[name])) for name in names])


def summary(parser: Any) -> str:
    """Return the first sentence of a command's help."""
    return " ".join(str(parser.help).split("\n\n", maxsplit=1)[0].split())
