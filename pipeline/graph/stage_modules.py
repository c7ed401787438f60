"""Run modules of `stages` that are no stage of DVC's: the check of the parameters, the scan, their description."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.graph.dvc_output import last_lines
from pipeline.graph.ingested import data_option
from pipeline.graph.workspace import read_digest
from pipeline.processes.commands import OWN_MODULE, CommandFailed, run
from pipeline.processes.redaction import make_redactor, run_shown
from reprise.artifacts.layout import CHECKED
from reprise.storage.code.fingerprint import digest_of_project
from reprise.storage.code.places import link_installed_code, uses_installed_code


def check(
    root: Path = Path(), *, on_line: Callable[[str], None] | None = None, again: bool = False, machine: bool = False
) -> None:
    """Check all parameters in a separate process, unless neither they nor the code changed since the last check.

    The process also records what it checked, and the fingerprints of the current code for `why`.

    Args:
        root: the project folder.
        on_line: called with each line of output.
        again: whether to check even if nothing changed, and against the images, where data/ holds those of the source.
        machine: whether to warn of what does not fit this machine.

    Raises:
        CommandFailed: a parameter is wrong; the process has explained it.
    """
    link_installed_code(root)
    if again or read_digest(root / CHECKED) != digest_of_project(root):
        around = [*(["--machine"] if machine else []), *(data_option(root) if again else [])]
        run_module("stages.check", ["--no-output", *around], root, on_line)


def describe_parameters(name: str | None = None, root: Path = Path()) -> None:
    """Print the parameters of a section or plug-in, or all names, in a process that may import stages.

    Raises:
        CommandFailed: nothing has that name; the process has explained it.
    """
    run_module("stages.check.describe", [] if name is None else ["--", name], root, None)


def problems(root: Path = Path()) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Check all parameters, against the images and this machine too, and return what is wrong and what is doubtful.

    Raises:
        CommandFailed: params.yaml cannot be read; the process has explained it.
    """
    link_installed_code(root)
    found = ask_module("stages.check", ["--no-output", "--machine", "--json", *data_option(root)], root)
    return found["problems"], found["warnings"]


def parameters_of(name: str | None, root: Path = Path()) -> dict[str, Any]:
    """Return the parameters of a section or plug-in, or all names, as `stages.check.describe` prints them.

    Raises:
        CommandFailed: nothing has that name; the process has explained it.
    """
    found: dict[str, Any] = ask_module(
        "stages.check.describe", ["--json", *([] if name is None else ["--", name])], root
    )
    return found


def show_views(arguments: list[str], root: Path = Path()) -> None:
    """Write the page of views, or print their moments, in a process that may import stages.

    Args:
        arguments: of `python -m stages.pretrain.show_views`.
        root: the project folder.

    Raises:
        CommandFailed: there is no such run, or there are no images yet; the process has explained it.
    """
    run_module("stages.pretrain.show_views", arguments, root, None)


def moments_of_views(arguments: list[str], root: Path = Path()) -> list[dict[str, Any]]:
    """Return the moments of views, as `stages.pretrain.show_views` prints them.

    Raises:
        CommandFailed: as `show_views`.
    """
    rows: list[dict[str, Any]] = ask_module("stages.pretrain.show_views", [*arguments, "--moments", "--json"], root)
    return rows


def scan(root: Path = Path(), *, on_line: Callable[[str], None] | None = None) -> None:
    """Scan the source of images, and rewrite source.lock.json if it changed.

    Args:
        root: the project folder.
        on_line: called with each line of output.

    Raises:
        CommandFailed: the source cannot be read; the process has explained why.
    """
    run_module("stages.ingest.scan", [], root, on_line)


def run_module(module: str, arguments: list[str], root: Path, on_line: Callable[[str], None] | None) -> None:
    """Run a module of `stages`.

    Args:
        module: dotted name.
        arguments: of its command line.
        root: the project folder.
        on_line: called with each line of output; without it, the module writes to the output of this process.

    Raises:
        CommandFailed: it ended with an error, which it has explained.
    """
    command = stage_command(module, arguments, root)
    lines: list[str] = []

    def keep(line: str) -> None:
        lines.append(line)
        if on_line:
            on_line(line)

    shown: list[str] = []
    code = run(command, cwd=root, on_line=keep) if on_line else run_shown(command, root, keep=shown)
    if code:
        raise CommandFailed(command, code, last_lines(lines), shown)


def ask_module(module: str, arguments: list[str], root: Path = Path()) -> Any:
    """Run a module of `stages` that prints JSON, and return what it printed; the rest goes to stderr.

    Raises:
        CommandFailed: it ended with an error, which it has explained.
    """
    command = stage_command(module, arguments, root)
    printed: list[str] = []
    shown: list[str] = []
    hide = make_redactor(root)

    def show(line: str) -> None:
        shown.append(hide(line))
        print(shown[-1], file=sys.stderr, flush=True)

    if code := run(command, cwd=root, on_each_line=(printed.append, show)):
        raise CommandFailed(command, code, shown=shown)
    return json.loads("\n".join(printed))


def stage_command(module: str, arguments: Sequence[str], root: Path) -> list[str]:
    """Return the command that runs a module of `stages`: the project's own, or the installed one where it has none."""
    start = OWN_MODULE if uses_installed_code(root) else (sys.executable, "-P", "stages/run.py")
    return [*start, module, *arguments]
