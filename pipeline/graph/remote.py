"""Results to and from the DVC remote, run-cache included: another worker, or an old revision, restores them.

DVC does the transfer and says how it went; here its words become a number of files or one typed error. Neither
lines nor errors hold a secret: they pass `pipeline.processes.redaction`, and what follows a `?` in an address is cut.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline.graph import dvc
from pipeline.processes.redaction import make_redactor
from reprise.config.errors import RemoteError

OnLine = Callable[[str], None]


@dataclass(frozen=True)
class Transfer:
    """What went over the line.

    Attributes:
        files: files that were received, or sent; among those sent are all entries of the run-cache, every time.
        seconds: how long DVC took.
        note: a sentence for people.
        missing: results that dvc.lock names and neither the cache nor the remote has.
    """

    files: int
    seconds: float
    note: str
    missing: int = 0


class _Cause(NamedTuple):
    """How a failure shows in DVC's words, what it is, what to do, whether waiting may help."""

    words: re.Pattern[str]
    what: str
    fix: str
    transient: bool


def _cause(words: str, what: str, fix: str, transient: bool = False) -> _Cause:
    return _Cause(re.compile(words, re.IGNORECASE), what, fix, transient)


_AGAIN = "Nothing is lost: results stay in DVC's cache. Try again; `reprise push` sends what is missing."
# In this order: what a person must mend comes before what passes, since one failure often says both.
_CAUSES = (
    _cause(
        r"requires '(?P<package>dvc-\w+)' to be installed|No module named 'dvc_",
        "the package for this kind of remote is not installed",
        "Install it: `pip install dvc-s3`, or dvc-gs, dvc-azure, dvc-ssh.",
    ),
    _cause(
        r"NoSuchBucket|bucket does not exist|ContainerNotFound|container does not exist",
        "the remote's bucket does not exist",
        "Create it, or correct the address: `dvc remote modify NAME url s3://...`.",
    ),
    _cause(
        r"AccessDenied|Forbidden|(?<![\w/:.-])40[13](?![\w/])|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken"
        r"|TokenRefreshRequired|Unable to locate credentials|NoCredentials|Partial ?Credentials|invalid_grant"
        r"|AuthenticationFailed|AuthorizationFailure|Authentication failed|Permission denied|RequestTimeTooSkewed"
        r"|config (profile|file) .* could not be found|default credentials",
        "the remote refuses these credentials",
        "Correct them: `dvc remote modify --local NAME ...`, or environment variables; see docs/how-to/remotes.md.",
    ),
    _cause(
        r"Bad Request",  # to a HEAD, S3 says no more than this when a token has expired
        "the remote refuses the request",
        "Check credentials (an expired token shows like this), region and address; see docs/how-to/remotes.md.",
    ),
    _cause(
        r"no remote|remote '.*' doesn't exist|not a valid URI|Invalid endpoint|Invalid bucket name|config file error"
        r"|credentials encoded in URL|Unsupported URL|No such file or directory|PermanentRedirect|Not a directory"
        r"|Name or service not known",
        "the remote's address is wrong",
        "Correct it: `dvc remote list` shows it, `dvc remote modify NAME url ...` sets it.",
    ),
    _cause(
        r"No space left|Disk quota|QuotaExceeded|EntityTooLarge",
        "there is no room",
        "Make room here or in the remote, and try again.",
    ),
    _cause(
        r"Unable to acquire lock|is busy, it is being blocked|rwlock",
        "another DVC holds this folder",
        "Wait until it ends and try again.",
        transient=True,
    ),
    _cause(
        r"Could not connect|Connection (was )?(reset|refused|aborted|closed|lost|timed)|timed? ?out|Remote end closed"
        r"|Temporary failure in name resolution|Network is unreachable|No route to host|IncompleteRead|Broken pipe"
        r"|Server disconnected|Cannot connect to host|ClientConnector|EndpointConnection",
        "the remote cannot be reached",
        _AGAIN,
        transient=True,
    ),
    _cause(
        r"InternalError|Internal Server Error|SlowDown|ServiceUnavailable|Service Unavailable|Bad Gateway"
        r"|Gateway Time-?out|reduce your request rate|Too ?Many ?Requests|RequestTimeout|OperationAborted"
        r"|ServerBusy|temporarily unavailable|(?<![\w/:.-])(429|50[0234])(?![\w/])",
        "the remote's server fails or is busy",
        _AGAIN,
        transient=True,
    ),
)
_UNKNOWN = _cause("", "the remote's answer was an error", "See what DVC says; `dvc doctor` lists what is installed.")
_QUERY = re.compile(r"(?<=\?)[^\s\"'`<>]+(?==)=[^\s\"'`<>]*")
_COUNT = re.compile(r"^(\d+) files? (?:fetched|pushed)|(\d+) files? fetched")
_NOISE = re.compile(r"^\s*$|Having any troubles")


def configured(root: Path = Path()) -> str | None:
    """The name of the default DVC remote, or None where there is none."""
    return dvc.setting("core.remote", root)


def pull(
    root: Path = Path(),
    on_line: OnLine | None = None,
    *,
    checkout: bool = False,
    cancelled: threading.Event | None = None,
) -> Transfer:
    """Bring what dvc.lock names and the whole run-cache into DVC's cache; the next `repro` restores from it.

    What the remote does not have is no error: it will be computed. Outputs that only the run-cache knows of come
    one stage at a time while the graph runs (`pipeline.graph.dvc.repro_stage(..., pull=True)`).

    Args:
        checkout: put the results into the folder too, as `dvc pull` does. Call it while holding `exclusive`.

    Raises:
        RemoteError: it failed; `transient` says whether trying again may help.
    """
    return _transfer(root, "pull" if checkout else "fetch", on_line, cancelled)


def push(root: Path = Path(), on_line: OnLine | None = None, *, cancelled: threading.Event | None = None) -> Transfer:
    """Send the results that dvc.lock names and the whole run-cache to the remote.

    Raises:
        RemoteError: it failed; `transient` says whether trying again may help.
    """
    return _transfer(root, "push", on_line, cancelled)


def _transfer(
    root: Path, verb: Literal["fetch", "pull", "push"], on_line: OnLine | None, cancelled: threading.Event | None
) -> Transfer:
    name = configured(root)
    if name is None:
        raise RemoteError(
            "there is no remote to transfer to or from",
            where=root / ".dvc/config",
            found="no default remote",
            fix="Name one: `dvc remote add --default store /path/to/store`, or s3://bucket/folder.",
        )
    hide = _hiding(root)
    lines: list[str] = []

    def keep(line: str) -> None:
        shown = hide(line)
        lines.append(shown)
        if on_line and not _NOISE.search(shown):
            on_line(shown)

    began = time.monotonic()
    status = dvc.transfer(verb, root=root, on_line=keep, cancelled=cancelled)
    seconds = time.monotonic() - began
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if status or errors:  # a run-cache that could not be sent is an ERROR line with status 0
        raise _explained(name, verb, status, errors, lines)
    files = sum(int(found[1] or found[2]) for line in lines if (found := _COUNT.search(line)))
    missing = len({line for line in lines if re.match(r"(name: .*, )?md5: ", line)})
    done = "sent to" if verb == "push" else "received from"
    note = f"{files} file{'s' if files != 1 else ''} {done} '{name}' in {seconds:.1f} s"
    if missing:
        where = "are not here and could not be sent" if verb == "push" else "are not there and will be computed"
        note += f"; {missing} result{'s' if missing != 1 else ''} of dvc.lock {where}"
    return Transfer(files, seconds, note, missing)


def _explained(name: str, verb: str, status: int, errors: Sequence[str], lines: Sequence[str]) -> RemoteError:
    said = "\n".join(errors or lines)
    cause = next((cause for cause in _CAUSES if cause.words.search(said)), _UNKNOWN)
    spoken = [line for line in errors or lines if not _NOISE.search(line)]
    # DVC's last line sums up; a failed transfer names the file first and the reason after " - "
    found = (spoken or [f"status {status} and no word"])[-1].removeprefix("unexpected error - ")
    found = re.sub(r"^failed to transfer '.*?' - ", "", found)
    return RemoteError(
        f"{cause.what} (dvc {verb})", where=f"remote '{name}'", found=found, fix=cause.fix, transient=cause.transient
    )


def _hiding(root: Path) -> Callable[[str], str]:
    hide = make_redactor(root)
    return lambda line: _QUERY.sub("***", hide(line))
