"""Summarise a failed command in one sentence, and decide whether a retry may help."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from pipeline.processes.commands import CommandFailed

_ERROR_LINE = re.compile(r"^(?:error|ERROR): ?(.*)$")
_FAILED_DOWNLOAD = re.compile(r"cannot be (downloaded|fetched|read over the network)")
_NETWORK_ERROR = re.compile(
    r"timed? ?out|Connection (reset|refused|aborted)|Remote end closed connection|IncompleteRead"
    r"|Temporary failure in name resolution|Network is unreachable|Too Many Requests|Internal Server Error|Bad Gateway"
    r"|Service Unavailable|times in a row|Gateway Time-?out|temporarily unavailable",
    re.IGNORECASE,
)


def failure_message(error: CommandFailed) -> str:
    """Return the message of a failed command.

    It is the last `error:` line, which a stage writes, with the list below it if it ends with a colon; or else the last
    `ERROR:` line, which DVC writes; or else the last line of output.
    """
    lines = error.lines or error.shown
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if starts:
        first, *rest = lines[starts[-1] :]
        below = takewhile(lambda line: line.startswith("  "), rest) if first.endswith(":") else ()
        return " ".join([first.removeprefix("error: "), *(line.strip() for line in below)])
    from_dvc = [match[1] for line in lines if (match := _ERROR_LINE.match(line))]
    not_empty = [line for line in lines if line.strip()]
    return (from_dvc or not_empty or [str(error)])[-1]


def is_transient(lines: Sequence[str]) -> bool:
    """Return whether the failure is a download that the server or the network interrupted.

    Only such a failure may pass by itself: wrong input stays wrong.
    """
    return any(
        line.startswith("error: ") and _FAILED_DOWNLOAD.search(line) and _NETWORK_ERROR.search(line) for line in lines
    )
