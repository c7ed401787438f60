"""The exit statuses of `reprise`: one number for each thing that a script must tell apart."""

from __future__ import annotations

import signal
from enum import IntEnum

from pipeline.processes.commands import CommandFailed
from pipeline.processes.signals import signal_name
from reprise.config.errors import ParameterError, RepriseError, WorkspaceBusyError


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    WRONG = 2
    REFUSED = 3
    BUSY = 4
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS = {
    ExitCode.DONE: "The command did what it was asked for.",
    ExitCode.FAILED: "It could not be done; a sentence on stderr says why. Traces of a defect of Reprise end so, too.",
    ExitCode.WRONG: "The command line or params.yaml is wrong, and nothing was run.",
    ExitCode.REFUSED: "The command did its work, and its answer is no.",
    ExitCode.BUSY: "Another process works in the folder; the same command works later, or with --wait.",
    ExitCode.INTERRUPTED: "Ctrl-C ended it; the same command continues from there.",
    ExitCode.TERMINATED: "SIGTERM ended it; the same command continues from there. Any other signal n gives 128 + n.",
}


def code_of(error: RepriseError | CommandFailed) -> int:
    """Return the exit status for an expected error.

    Of the programs that Reprise starts, only 2 (a wrong parameter, from the check of params.yaml) and the death by a
    signal are passed on: DVC's own 255 and 254 tell a script nothing.
    """
    if isinstance(error, WorkspaceBusyError):
        return ExitCode.BUSY
    if isinstance(error, CommandFailed):
        return error.status if error.status == ExitCode.WRONG or signal_name(error.status) else ExitCode.FAILED
    return ExitCode.WRONG if isinstance(error, ParameterError) else ExitCode.FAILED


def code_of_signal(number: int) -> int:
    """Return the exit status of a process that a signal ended."""
    return 128 + signal.Signals(number)
