"""Parse the command lines of the documents without running them: each program says whether it would take its words."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_OPERATORS = {"&&", "||", "|", ";", "&"}
_MODULE = re.compile(r"(reprise|stages|studies|tests|benchmarks)(\.\w+)+")
_ASSIGNMENT = re.compile(r"[A-Z_]+=")


class Refused(Exception):
    """A program would not take these words."""


def parse_line(line: str) -> None:
    """Parse a line of a shell, and the words of the programs in it.

    Raises:
        Refused: the shell or a program would refuse it, or nobody knows the program.
    """
    done = subprocess.run(["bash", "-n", "-c", line], capture_output=True, text=True)
    if done.returncode:
        raise Refused(done.stderr)
    for words in simple_commands(line):
        program, *arguments = words
        if program not in PROGRAMS:
            raise Refused(f"nobody knows the program {program!r} of {line!r}")
        PROGRAMS[program](arguments)


def simple_commands(line: str) -> list[list[str]]:
    """Divide a line at `&&`, `|` and `;`, without comments, variables before a command, and the words of loops."""
    if line.startswith("for "):
        return []
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if word in _OPERATORS:
            found.append([])
        elif found[-1] or not _ASSIGNMENT.match(word):
            found[-1].append(word)
    return [words for words in found if words]


@cache
def _reprise_command() -> Any:
    import typer.main

    from pipeline.cli.commands import app

    return typer.main.get_command(app)


def _reprise(arguments: list[str]) -> None:
    command, context, name = _reprise_command(), None, "reprise"
    try:
        while True:
            context = command.make_context(name, arguments, parent=context)
            if not hasattr(command, "get_command"):
                return
            name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise Refused(error.format_message()) from error


def _dvc(arguments: list[str]) -> None:
    from dvc.cli import parse_args
    from dvc.cli.parser import DvcParserError

    try:
        parse_args(arguments)
    except (DvcParserError, SystemExit) as error:
        raise Refused(f"dvc does not take {arguments}") from error


def _make(arguments: list[str]) -> None:
    targets = [word for word in arguments if "=" not in word]
    if unknown := set(targets) - make_targets():
        raise Refused(f"the Makefile has no target {', '.join(unknown)}")


@cache
def make_targets() -> set[str]:
    """Targets of the Makefile."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def _python(arguments: list[str]) -> None:
    if "-c" in arguments:
        compile(arguments[arguments.index("-c") + 1], "a page", "exec")
        return
    module = next(filter(_MODULE.fullmatch, arguments), None)
    if module is None or not _exists(module):
        raise Refused(f"there is no module {module} to run: {arguments}")


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _anything(arguments: list[str]) -> None:
    """Leave the words to the program, which runs in another test."""


PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "reprise": _reprise,
    "dvc": _dvc,
    "make": _make,
    "python": _python,
    **dict.fromkeys(
        [".ci/run", "cat", "cd", "cp", "dask", "export", "git", "ls", "pip", "prefect", "torchrun"], _anything
    ),
}
