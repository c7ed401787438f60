"""Register a command together with what its help and the reference say of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import typer

from pipeline.cli.exit_codes import ExitCode

Function = TypeVar("Function", bound=Callable[..., Any])
NOTHING = "nothing"
_SHORT = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "failed",
    ExitCode.WRONG: "wrong command line or parameters",
    ExitCode.BUSY: "another process works in the folder",
    ExitCode.INTERRUPTED: "interrupted",
}


@dataclass(frozen=True)
class Description:
    """What is said of a command besides its docstring and its options.

    Attributes:
        examples: command lines that can be typed as they are.
        writes: what it writes and where, a clause without a full stop.
        refused: when it ends with status 3; empty where it never does.
        busy: whether it ends with status 4 while another process works in the folder.
        fields: of the JSON document: path ("points[].name", "runs.*.mean") -> "type: meaning". A type is text, number,
            integer, yes/no, list or object, with `or null` where it may be missing. Empty without --json.
    """

    examples: tuple[str, ...]
    writes: str
    refused: str = ""
    busy: bool = False
    fields: Mapping[str, str] | None = None

    def exits(self) -> dict[ExitCode, str]:
        """Return the exit codes with their meanings, in a few words each."""
        found = dict(_SHORT)
        if self.refused:
            found[ExitCode.REFUSED] = self.refused
        if not self.busy:
            del found[ExitCode.BUSY]
        return dict(sorted(found.items()))

    def epilog(self) -> str:
        """Return what the help shows below the options."""
        exits = "; ".join(f"{int(code)} {words}" for code, words in self.exits().items())
        title = "Example" if len(self.examples) == 1 else "Examples"
        examples = "\n".join(f"  {line}" for line in self.examples)
        return f"Writes {self.writes}.\n\nExit codes: {exits}.\n\n\b\n{title}:\n{examples}"


_DESCRIPTIONS: dict[Callable[..., Any], Description] = {}


def command(
    app: typer.Typer,
    name: str | None = None,
    *,
    examples: Sequence[str],
    writes: str = NOTHING,
    refused: str = "",
    busy: bool = False,
    fields: Mapping[str, str] | None = None,
) -> Callable[[Function], Function]:
    """Make a function a command of an app, and keep what is said of it; see `Description`."""
    description = Description(tuple(examples), writes, refused, busy, fields)

    def register(function: Function) -> Function:
        _DESCRIPTIONS[function] = description
        return app.command(name, epilog=description.epilog())(function)

    return register


def description_of(callback: Callable[..., Any]) -> Description | None:
    """Return what is said of a command, given the function that runs it."""
    return _DESCRIPTIONS.get(inspect.unwrap(callback))
