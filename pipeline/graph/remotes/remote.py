"""Send results to the DVC remote and fetch them from it, run cache included, so that others can restore them.

DVC does the transfer; this module turns its output into a number of files or one typed error. Neither lines nor errors
hold a secret: they pass through `pipeline.processes.redaction`.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline.graph import dvc
from pipeline.graph.remotes.refused import refusals, refused_objects
from pipeline.processes.redaction import make_redactor
from pipeline.processes.signals import signal_name
from reprise.config.errors import RemoteError

OnLine = Callable[[str], None]


@dataclass(frozen=True)
class Transfer:
    """The result of a transfer.

    Attributes:
        files: number of files received or sent; DVC sends every entry of the run cache each time.
        seconds: duration.
        note: a sentence for people.
        missing: number of results in dvc.lock that neither the cache nor the remote has.
    """

    files: int
    seconds: float
    note: str
    missing: int = 0


class _Cause(NamedTuple):
    """A cause of failures.

    Attributes:
        pattern: how the failure shows in DVC's output.
        what: the failure in words.
        fix: what a person can do.
        transient: whether a retry may help.
    """

    pattern: re.Pattern[str]
    what: str
    fix: str
    transient: bool


def _cause(pattern: str, what: str, fix: str, transient: bool = False) -> _Cause:
    return _Cause(re.compile(pattern, re.IGNORECASE), what, fix, transient)


TRIAL_SECONDS = 60.0
Trial = Literal["tried", "read only", "absent"]
_TRIALS: Mapping[int, Trial] = {0: "tried", 3: "read only", 5: "absent"}  # of pipeline.graph.in_dvc.transfers.trial
_RETRY = "Nothing is lost: results stay in DVC's cache. Try again; `reprise push` sends what is missing."
# The order matters, because the output of one failure often matches several patterns: a cause that a person must
# correct comes before one that may pass by itself.
_CAUSES = (
    _cause(
        r"requires '(?P<package>dvc-\w+)' to be installed|No module named 'dvc_",
        "the package for this kind of remote is not installed",
        "Install the package: `pip install dvc-s3`, or dvc-gs, dvc-azure, dvc-ssh.",
    ),
    _cause(
        r"NoSuchBucket|bucket does not exist|ContainerNotFound|container does not exist",
        "the remote's bucket does not exist",
        "Create the bucket, or correct the URL: `dvc remote modify NAME url s3://...`.",
    ),
    _cause(
        r"AccessDenied|Forbidden|(?<![\w/:.-])40[13](?![\w/])|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken"
        r"|TokenRefreshRequired|Unable to locate credentials|NoCredentials|Partial ?Credentials|invalid_grant"
        r"|AuthenticationFailed|AuthorizationFailure|Authentication failed|Permission denied|RequestTimeTooSkewed"
        r"|config (profile|file) .* could not be found|default credentials",
        "the remote refuses these credentials",
        "Correct them: `dvc remote modify --local NAME ...`, or environment variables.",
    ),
    _cause(
        r"Bad Request",  # S3's whole answer to a HEAD request with an expired token
        "the remote refuses the request",
        "Check the credentials (a token may have expired), the region and the URL.",
    ),
    _cause(
        r"no remote|remote '.*' doesn't exist|not a valid URI|Invalid endpoint|Invalid bucket name|config file error"
        r"|credentials encoded in URL|Unsupported URL|No such file or directory|PermanentRedirect|Not a directory"
        r"|Name or service not known",
        "the remote's URL is wrong",
        "Correct it: `dvc remote list` shows it, `dvc remote modify NAME url ...` sets it.",
    ),
    _cause(
        r"No space left|Disk quota|QuotaExceeded|EntityTooLarge",
        "there is no space left",
        "Free some space, here or in the remote, and try again.",
    ),
    _cause(
        r"Unable to acquire lock|is busy, it is being blocked|rwlock",
        "another DVC process holds this folder",
        "Wait until it ends and try again.",
        transient=True,
    ),
    _cause(
        r"Could not connect|Connection (was )?(reset|refused|aborted|closed|lost|timed)|timed? ?out|Remote end closed"
        r"|Temporary failure in name resolution|Network is unreachable|No route to host|IncompleteRead|Broken pipe"
        r"|Server disconnected|Cannot connect to host|ClientConnector|EndpointConnection",
        "the remote cannot be reached",
        _RETRY,
        transient=True,
    ),
    _cause(
        r"InternalError|Internal Server Error|SlowDown|ServiceUnavailable|Service Unavailable|Bad Gateway"
        r"|Gateway Time-?out|reduce your request rate|Too ?Many ?Requests|RequestTimeout|OperationAborted"
        r"|ServerBusy|temporarily unavailable|(?<![\w/:.-])(429|50[0234])(?![\w/])",
        "the remote's server fails or is busy",
        _RETRY,
        transient=True,
    ),
)
_UNKNOWN = _cause("", "the transfer failed", "Read DVC's message; `dvc doctor` lists what is installed.")
_COUNT = re.compile(r"^(\d+) files? (?:fetched|pushed)|(\d+) files? fetched")
_NOISE = re.compile(r"^\s*$|Having any troubles")


def default_remote(root: Path = Path()) -> str | None:
    """Return the name of the default DVC remote, or None if there is none."""
    return dvc.setting("core.remote", root)


def needed_remote(root: Path, what: str = "the project has no default DVC remote") -> str:
    """Return the name of the default DVC remote.

    Args:
        root: the project folder.
        what: of the error.

    Raises:
        RemoteError: there is none.
    """
    name = default_remote(root)
    if name is None:
        raise RemoteError(
            what,
            where=root / ".dvc/config",
            found="no default remote",
            fix="Add one and commit .dvc/config: `dvc remote add --default store /path/to/store`, or s3://bucket/folder.",
        )
    return name


def try_remote(name: str, root: Path, seconds: float = TRIAL_SECONDS) -> Trial:
    """Write a small file of its own into the default remote, read it back and remove it.

    Args:
        name: of the remote.
        root: the project folder.
        seconds: after which a remote that says nothing is given up.

    Returns:
        "tried"; "read only" for a web server, and "absent" for a folder that is not there: both are not tried.

    Raises:
        RemoteError: it cannot be written, read or deleted from, or does not answer.
    """
    lines: list[str] = []
    hide, cancelled = make_redactor(root), threading.Event()
    clock = threading.Timer(seconds, cancelled.set)
    clock.start()
    try:
        status = dvc.try_remote(root, lambda line: lines.append(hide(line)), cancelled)
    finally:
        clock.cancel()
    if cancelled.is_set():
        raise RemoteError(
            "the remote cannot be reached",
            where=f"remote '{name}'",
            found=f"no answer within {seconds:g} s",
            fix=_RETRY,
            transient=True,
        )
    if status not in _TRIALS:
        refuse_failed(name, "push", status, lines)
    return _TRIALS[status]


def pull(
    root: Path = Path(),
    on_line: OnLine | None = None,
    *,
    checkout: bool = False,
    cancelled: threading.Event | None = None,
) -> Transfer:
    """Fetch the results that dvc.lock names and the whole run cache into DVC's cache; the next run restores from it.

    What is fetched is checked first: each object against its name, each name in a listing against its folder, and each
    entry of the run cache against its form.

    Files missing from the remote are not an error: they are counted and recomputed. Outputs that only the run cache
    knows are fetched stage by stage while the graph runs (`pipeline.graph.dvc.repro_stage(..., pull=True)`).

    Args:
        root: the project folder.
        on_line: called with each line of output.
        checkout: whether to put the results into the folder as well, once all of them have been checked; the caller
            must then hold `exclusive`.
        cancelled: ends the transfer when another thread sets it.

    Raises:
        RemoteError: the transfer failed; `transient` tells whether a retry may help.
        ObjectError: the remote holds other bytes than dvc.lock says, or a listing that leads out of its folder. The
            folder is left as it is.
    """
    fetched = _transfer(root, "fetch", on_line, cancelled)
    if checkout:
        _transfer(root, "checkout", on_line, cancelled)
    return fetched


def push(root: Path = Path(), on_line: OnLine | None = None, *, cancelled: threading.Event | None = None) -> Transfer:
    """Send the results that dvc.lock names and the whole run cache to the remote.

    Args:
        root: the project folder.
        on_line: called with each line of output.
        cancelled: ends the transfer when another thread sets it.

    Raises:
        RemoteError: the transfer failed; `transient` tells whether a retry may help.
    """
    return _transfer(root, "push", on_line, cancelled)


def _transfer(
    root: Path, verb: Literal["fetch", "checkout", "push"], on_line: OnLine | None, cancelled: threading.Event | None
) -> Transfer:
    name = needed_remote(root)
    hide = make_redactor(root)
    lines: list[str] = []

    def keep(line: str) -> None:
        hidden = hide(line)
        lines.append(hidden)
        if on_line and not _NOISE.search(hidden):
            on_line(hidden)

    began = time.monotonic()
    status = dvc.transfer(verb, root=root, on_line=keep, cancelled=cancelled)
    seconds = time.monotonic() - began
    refuse_failed(name, verb, status, lines)
    files = sum(int(match[1] or match[2]) for line in lines if (match := _COUNT.search(line)))
    missing = len({line for line in lines if re.match(r"(name: .*, )?md5: ", line)})
    done = "sent to" if verb == "push" else "received from"
    note = f"{files} file{'s' if files != 1 else ''} {done} '{name}' in {seconds:.1f} s"
    if missing:
        results = "1 result of dvc.lock is" if missing == 1 else f"{missing} results of dvc.lock are"
        place = "here and could not be sent" if verb == "push" else "from the remote and will be computed"
        note += f"; {results} missing {place}"
    return Transfer(files, seconds, note, missing)


def refuse_failed(name: str, verb: str, status: int, lines: Sequence[str]) -> None:
    """Raise the error of a transfer that failed; do nothing after one that succeeded.

    Args:
        name: of the remote.
        verb: DVC's command.
        status: its exit status, which is 0 even if the run cache could not be sent.
        lines: its output, without secrets.

    Raises:
        RemoteError: the transfer failed; `transient` tells whether a retry may help.
        ObjectError: the remote holds other bytes than their names say.
    """
    if (killer := signal_name(status)) is not None:
        raise RemoteError(
            f"the transfer was killed (dvc {verb})",
            where=f"remote '{name}'",
            found=f"signal {killer}",
            fix="Nothing is lost: what has arrived stays, and the same command transfers the rest. If nobody sent the "
            "signal, the machine may have run out of memory (`dmesg` says so).",
        )
    refused = refusals(lines)
    if status and refused:
        raise refused_objects(refused, f"remote '{name}'")
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if status or errors:  # DVC reports a run cache that could not be sent as an ERROR line, with status 0
        raise _remote_error(name, verb, status, errors, lines)


def _remote_error(name: str, verb: str, status: int, errors: Sequence[str], lines: Sequence[str]) -> RemoteError:
    output = "\n".join(errors or lines)
    cause = next((cause for cause in _CAUSES if cause.pattern.search(output)), _UNKNOWN)
    messages = [line for line in errors or lines if not _NOISE.search(line)]
    # DVC's last line sums up; for a failed transfer it names the file first, and the reason after " - ".
    message = (messages or [f"status {status} and no output"])[-1].removeprefix("unexpected error - ")
    message = re.sub(r"^failed to transfer '.*?' - ", "", message)
    return RemoteError(
        f"{cause.what} (dvc {verb})", where=f"remote '{name}'", found=message, fix=cause.fix, transient=cause.transient
    )
