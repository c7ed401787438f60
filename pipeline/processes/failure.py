"""Say in a sentence why a command failed, from what its process wrote, and decide whether a retry may help."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from pipeline.processes.commands import CommandFailed
from reprise.config.errors import RepriseError, listed

STAGES_FAILED = ("reprise", "repro")  # the command of a run whose lines tell of each stage that failed
LAST_LINES = 5  # of a process that has not explained itself
_OWN = "error: "  # begins the sentence of a stage, or of any other process of ours
_FROM_DVC = re.compile(r"^(?:error|ERROR): ?(.*)$")
_ONLY_STATUS = re.compile(r"^failed to (?:reproduce|run)\b")  # of DVC, when a stage's command ended with an error
_NARRATION = re.compile(
    r"^\s*$|^> |^Running stage '|^Stage '|^(?:Updating|Generating) lock file |^(?:ERROR|WARNING): |^Traceback "
)  # of DVC, around what a stage writes
_IN_DVC = "pipeline.graph.in_dvc"
_FAILED_DOWNLOAD = re.compile(r"cannot be (downloaded|fetched|read over the network)")
_NETWORK_ERROR = re.compile(
    r"timed? ?out|Connection (reset|refused|aborted)|Remote end closed connection|IncompleteRead"
    r"|Temporary failure in name resolution|Network is unreachable|Too Many Requests|Internal Server Error|Bad Gateway"
    r"|Service Unavailable|times in a row|Gateway Time-?out|temporarily unavailable",
    re.IGNORECASE,
)


def own_sentence(lines: Sequence[str]) -> str | None:
    """Return what a process said last in an `error:` line, as ours do, on one line; None if it said nothing there.

    A sentence that ends with a colon goes on with the list below it and the way out below the list.
    """
    starts = [number for number, line in enumerate(lines) if line.startswith(_OWN) and line.strip() != _OWN.strip()]
    if not starts:
        return None
    first, *rest = lines[starts[-1] :]
    below = list(takewhile(lambda line: line.startswith("  "), rest)) if first.endswith(":") else []
    way_out = [line for line in rest[len(below) : len(below) + 1] if below and not _NARRATION.match(line)]
    sentence = " ".join([first.removeprefix(_OWN), *(line.strip() for line in below)])
    return ". ".join([sentence.removesuffix("."), way_out[0].strip()]) if way_out else sentence


def failure_message(error: CommandFailed, log: str = "") -> str:
    """Return the message of a failed command, on one line.

    It is the sentence of the process if that is one of ours. Otherwise it is DVC's last `ERROR:` line, with the last
    line of the stage where DVC tells only that the stage failed; or the last line of output.

    Args:
        error: the failure.
        log: where all output can be read, which is added where the process has not explained itself.
    """
    lines = error.lines or error.shown
    sentence = own_sentence(lines)
    if sentence is not None:
        return sentence
    from_dvc = [match[1] for line in lines if (match := _FROM_DVC.match(line))]
    written = [line.strip() for line in lines if not _NARRATION.match(line)]
    message = [*written[-1:], *from_dvc[-1:]][-1:] or [str(error)]
    if from_dvc and written and _ONLY_STATUS.match(from_dvc[-1]):
        message.append(f"its last line: {written[-1]}")
    return "; ".join([*message, *([f"all output: {log}"] if log else [])])


def failure_of(error: CommandFailed) -> RepriseError:
    """Return a failed command as an error in parts, for a program: which process failed, and what it said.

    All that the process wrote is on stderr, where the command has shown it.
    """
    name, lines = name_of(error), error.lines or error.shown
    if error.command == STAGES_FAILED:
        return RepriseError(
            "stages of the graph failed",
            where=name,
            found=listed(lines),
            fix="Do what the sentences say; stderr has all that the stages wrote.",
        )
    sentence = own_sentence(lines)
    last = [line for line in lines if line.strip()][-LAST_LINES:]
    return RepriseError(
        f"{name} failed with exit status {error.status}",
        where=name,
        found=sentence or (listed(f"| {line}" for line in last) if last else "no output"),
        fix="Do what its sentence says; stderr has all that it wrote."
        if sentence
        else "These are its last lines; stderr has all that it wrote.",
    )


def name_of(error: CommandFailed) -> str:
    """Name the program of a failed command without the interpreter's own words."""
    words = [word for word in error.command if not word.startswith("-")]
    stage = next((word for word in words if word.startswith("stages.")), None)
    if stage is None and _IN_DVC in words:
        return f"dvc {' '.join(words[words.index(_IN_DVC) + 1 :][:1])}".rstrip()
    return stage or " ".join(words[-2:])


def is_transient(lines: Sequence[str]) -> bool:
    """Return whether the failure is a download that the server or the network interrupted.

    Only such a failure may pass by itself: wrong input stays wrong.
    """
    return any(
        line.startswith(_OWN) and _FAILED_DOWNLOAD.search(line) and _NETWORK_ERROR.search(line) for line in lines
    )
