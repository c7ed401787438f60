"""Turn the errors that a command expects into a sentence and an exit status."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from pipeline.cli.commands import app
from pipeline.cli.output import say_aside
from pipeline.processes.commands import CommandFailed
from pipeline.processes.redaction import make_redactor
from pipeline.processes.signals import signal_name
from reprise.config.errors import RepriseError
from reprise.runtime import interrupts
from reprise.runtime.encoding import use_utf8
from reprise.storage.system.refusals import refusal

INTERRUPTED = "interrupted: the same command continues from here"


def run() -> None:
    """Run the command that the command line names.

    Raises:
        SystemExit: with the exit status of the command, unless that is 0.
    """
    use_utf8()
    try:
        with interrupts.ending_soon({signal.SIGINT: INTERRUPTED}):
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
    hide = make_redactor(Path())
    if isinstance(error, RepriseError):
        print(f"error: {hide(str(error))}", file=sys.stderr)
        return 1
    for line in error.lines:
        say_aside(hide(line))
    _say_killed(error.status)
    return error.status


def _say_killed(status: int) -> None:
    name = signal_name(status)
    if status == 128 + signal.SIGINT:
        interrupts.say(INTERRUPTED)
    elif name is not None:
        print(f"killed by {name}: the same command continues from here", file=sys.stderr)
