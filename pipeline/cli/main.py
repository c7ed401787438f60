"""`reprise ...`: run a command; expected errors and Ctrl-C become one sentence and an exit status.

The commands are imported inside, since that takes a second, in which Ctrl-C must be answered as well.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.processes.commands import CommandFailed
    from reprise.config.errors import RepriseError


def main() -> None:
    """Run the command line; REPRISE_TRACEBACK=1 shows the tracebacks of expected errors as well."""
    try:
        _run()
    except KeyboardInterrupt:
        print("interrupted: the same command continues from here", file=sys.stderr)
        sys.exit(130)


def _run() -> None:
    from pipeline.cli.commands import app
    from pipeline.processes.commands import CommandFailed
    from reprise.config.errors import RepriseError
    from reprise.runtime.encoding import use_utf8
    from reprise.storage.system_errors import refusal

    use_utf8()
    try:
        app()
    except (RepriseError, CommandFailed, OSError) as error:
        expected = refusal(error) if isinstance(error, OSError) else error
        if os.environ.get("REPRISE_TRACEBACK") == "1" or expected is None:
            raise
        sys.exit(print_error(expected))
    except SystemExit as ended:
        if isinstance(ended.code, int):
            _say_killed(ended.code)
        raise


def print_error(error: RepriseError | CommandFailed) -> int:
    """Print an expected error and return the exit status; of a failed command, print the lines that were captured."""
    from pipeline.cli.output import say_aside
    from pipeline.processes.redaction import make_redactor
    from reprise.config.errors import RepriseError

    hide = make_redactor(Path())
    if isinstance(error, RepriseError):
        print(f"error: {hide(str(error))}", file=sys.stderr)
        return 1
    for line in error.lines:
        say_aside(hide(line))
    _say_killed(error.status)
    return error.status


def _say_killed(status: int) -> None:
    from pipeline.processes.signals import signal_name

    name = signal_name(status)
    if name is not None:
        print(f"killed by {name}: the same command continues from here", file=sys.stderr)
