"""Turn the errors that a command expects into a sentence and an exit status, and for programs into a JSON document."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import typer

from pipeline.cli.commands import app
from pipeline.cli.described.usage import usage_error
from pipeline.cli.exit_codes import ExitCode, code_of
from pipeline.cli.output import answer_error, awaits_answer, say_aside, stdout_for_the_answer
from pipeline.processes.commands import CommandFailed
from pipeline.processes.failure import STAGES_FAILED, failure_of, name_of, own_sentence
from pipeline.processes.redaction import make_redactor
from pipeline.processes.signals import signal_name
from reprise.config.errors import RepriseError
from reprise.runtime import interrupts
from reprise.runtime.encoding import use_utf8
from reprise.storage.system.refusals import refusal

INTERRUPTED = "interrupted: the same command continues from here"
_UNREAD = 128 + signal.SIGPIPE  # as of programs that leave this signal alone
_CONTINUE = "The same command continues from here."


def run() -> None:
    """Run the command that the command line names.

    Raises:
        SystemExit: always, with the exit status of the command (`ExitCode`).
    """
    use_utf8()
    with stdout_for_the_answer() if wants_json(sys.argv[1:]) else nullcontext():
        status = _run()
        if status and awaits_answer():
            answer_error(_ended(status), status, str)
    sys.exit(_UNREAD if reader_left() else status)


def reader_left() -> bool:
    """Whether nobody reads stdout any more, as after `| head`; what is left to print is then dropped without a word."""
    if sys.stdout is None:  # closed before the command began (`>&-`)
        return False
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON. An error in the command line itself is then JSON as well."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def _run() -> int:
    try:
        with interrupts.ending_soon({signal.SIGINT: INTERRUPTED}):
            status = app(standalone_mode=False, prog_name="reprise") or ExitCode.DONE
    except (RepriseError, CommandFailed, OSError) as error:
        expected = refusal(error) if isinstance(error, OSError) else error
        if os.environ.get("REPRISE_TRACEBACK") == "1" or expected is None:
            _answer_defect(error)
            raise
        return print_error(expected)
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # of a group of commands, whose help is then its answer
            print(error.format_message(), file=sys.stderr)
            return ExitCode.WRONG
        return print_error(usage_error(error))
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else ExitCode.FAILED
        if ended.code is not None and not isinstance(ended.code, int):
            raise
    except Exception as error:
        _answer_defect(error)
        raise
    _say_killed(status)
    return int(status)


def print_error(error: RepriseError | CommandFailed) -> int:
    """Print an expected error and return the exit status; of a failed command, print the lines that were captured.

    A program that has not explained itself in an `error:` line gets a sentence below its lines.
    """
    hide, code = make_redactor(Path()), code_of(error)
    if isinstance(error, RepriseError):
        print(f"error: {hide(str(error))}", file=sys.stderr)
        answer_error(error, code, hide)
        return code
    for line in error.lines:
        say_aside(hide(line))
    lines = error.lines or error.shown
    explained = error.command == STAGES_FAILED or own_sentence(lines) is not None
    if lines and not explained and signal_name(error.status) is None:
        sentence = f"{name_of(error)} failed with exit status {error.status}; the lines above are its own"
        print(f"error: {hide(sentence)}", file=sys.stderr)
    _say_killed(error.status)
    answer_error(_of_process(error), code, hide)
    return code


def _say_killed(status: int) -> None:
    name = signal_name(status)
    if status == ExitCode.INTERRUPTED:
        interrupts.say(INTERRUPTED)
    elif name is not None:
        print(f"killed by {name}: the same command continues from here", file=sys.stderr)


def _of_process(error: CommandFailed) -> RepriseError:
    """Return the error of a process in the parts of a sentence."""
    if (killed := signal_name(error.status)) is None:
        return failure_of(error)
    return RepriseError(
        "a process of the command was killed", where=name_of(error), found=f"signal {killed}", fix=_CONTINUE
    )


def _ended(status: int) -> RepriseError:
    """Return the error of a command that ended without an answer."""
    name = signal_name(status)
    if name is not None:
        return RepriseError("the command was interrupted", where="reprise", found=f"signal {name}", fix=_CONTINUE)
    return RepriseError(
        "the command ended without a result", where="reprise", found=f"exit status {status}", fix="Read stderr."
    )


def _answer_defect(error: BaseException) -> None:
    defect = RepriseError(
        "a defect of Reprise",
        where=type(error).__name__,
        found=str(error),
        fix="Report it with the traceback on stderr.",
    )
    answer_error(defect, ExitCode.FAILED, make_redactor(Path()))
