"""What a failed command said, in one sentence, and whether trying again may help."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.processes.processes import CommandFailed

_SPOKEN = re.compile(r"^(?:error|ERROR): ?(.*)$")
_NOT_HERE = re.compile(r"cannot be (downloaded|fetched)")
_PASSES = re.compile(
    r"timed? ?out|Connection (reset|refused|aborted)|Remote end closed connection|IncompleteRead"
    r"|Temporary failure in name resolution|Network is unreachable|Too Many Requests|Internal Server Error|Bad Gateway"
    r"|Service Unavailable|Gateway Time-?out|temporarily unavailable",
    re.IGNORECASE,
)


def message_of(error: CommandFailed) -> str:
    """The stage's own message: its last `error:` line, or else DVC's, or the last line at all."""
    own = [line.removeprefix("error: ") for line in error.lines if line.startswith("error: ")]
    if own:
        return own[-1]
    spoken = [found[1] for line in error.lines if (found := _SPOKEN.match(line))]
    said = [line for line in error.lines if line.strip()]
    return (spoken or said or [str(error)])[-1]


def is_transient(lines: Sequence[str]) -> bool:
    """Whether the failure is a download that a server or the network broke off: wrong input stays wrong."""
    return any(line.startswith("error: ") and _NOT_HERE.search(line) and _PASSES.search(line) for line in lines)
