"""Read DVC's output: what it did, which lines to leave out, and why it failed, in a sentence above DVC's own text.

A stage that fails explains itself, and failures of remotes are explained in `remotes/remote.py`. This module is for
the others: locks, settings, permissions, the repository.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from reprise.config.errors import GraphError, RepriseError, WorkspaceBusyError, listed

ADVICE_TO_UNLOCK = re.compile(r"^If there are no processes with such PIDs")  # it would break a lock that is in use
# Advice that DVC prints after each stage. It is left out, because it would hide the output of the stages in a log.
# So is a warning about folders that are rightly empty, such as data/models without a row of `models`.
ADVICE = re.compile(
    r"^\s*$|^WARNING: '[^']*' is empty\.$"
    r"|^To (track the changes with git|enable auto staging), run:$|^\tgit add |^\tdvc config core\.autostage"
    rf"|^Use `dvc push` to send|{ADVICE_TO_UNLOCK.pattern}"
)
_NOISE = re.compile(rf"^\s*$|Having any troubles|{ADVICE_TO_UNLOCK.pattern}")


class Outcome(Enum):
    """What DVC did with a stage."""

    RAN = "ran"
    RESTORED = "restored from the cache"
    CACHED = "up to date"


class _Cause(NamedTuple):
    """A cause of failures.

    Attributes:
        pattern: how the failure shows in DVC's text.
        what: the failure in words.
        fix: what a person can do; `{root}` is the folder.
        error: the type of the error.
    """

    pattern: str
    what: str
    fix: str
    error: type[RepriseError] = GraphError


_CAUSES = (
    _Cause(
        r"is busy, it is being blocked by",
        "another DVC works on the same files",
        "Wait until the process that DVC's text names has ended, and run again.",
        WorkspaceBusyError,
    ),
    _Cause(
        r"Unable to acquire lock",
        "another DVC holds this folder's lock",
        "Wait until it ends, and run again. `reprise repro` clears what a DVC that was killed has left.",
        WorkspaceBusyError,
    ),
    _Cause(
        r"configuration error|config file error",
        "DVC cannot read its settings",
        "Correct the line that DVC's text names, in .dvc/config, .dvc/config.local or the settings of the user.",
    ),
    _Cause(
        r"not owned by current user|dubious ownership",
        "git does not trust this repository, because it belongs to another user",
        "If you trust its owner, tell git so: `git config --global --add safe.directory {root}`.",
    ),
    _Cause(
        r"not inside of a DVC repository",
        "this folder is no DVC repository",
        "Work in a clone, or make one of it: `dvc init`.",
    ),
    _Cause(
        r"is not a git repository|SCM repository.*not found",
        "this folder is not in a git repository, which DVC needs",
        "Work in a clone, or let DVC do without git: `dvc config core.no_scm true`.",
    ),
    _Cause(r"No space left|Errno 28", "DVC cannot write: the disk is full", "Free some space and run again."),
    _Cause(r"Disk quota|Errno 122", "DVC cannot write: the disk quota is used up", "Free some space and run again."),
    _Cause(r"Read-only file system|Errno 30", "DVC cannot write: the file system is read-only", "Mount it writable."),
    _Cause(
        r"Permission denied|Errno 13",
        "DVC has no permission",
        "Give yourself permission on what DVC's text names: `ls -ld` shows its owner.",
    ),
    _Cause(r"Too many open files|Errno 24", "DVC has too many open files", "Raise the limit: `ulimit -n 4096`."),
    _Cause(
        r"database is locked|disk I/O error|database disk image is malformed",
        "DVC cannot use its database of file hashes",
        "On a network drive, put it elsewhere: `dvc config --local core.site_cache_dir FOLDER`; DVC makes it again.",
    ),
    _Cause(
        r"dvc\.lock.*(invalid|is broken)|'\./dvc\.lock' is invalid",
        "dvc.lock is unreadable",
        "Run `reprise repro`, which sets the file aside and restores the results from DVC's run cache.",
    ),
    _Cause(
        r"RWLock-file",
        "DVC's list of readers and writers is unreadable",
        "Run `reprise repro` once, which removes it where a killed DVC left it.",
    ),
)
_UNKNOWN = _Cause("", "", "Run `reprise repro`; if that fails too, `dvc doctor` shows what is installed.")


def explain_failure(lines: Sequence[str], root: Path, otherwise: str = "DVC failed") -> RepriseError:
    """Return an error that says why DVC failed.

    Args:
        lines: DVC's output. The lines from the first `ERROR:` on count; without one, all of them.
        root: the project folder.
        otherwise: what went wrong, for a cause that is not known.
    """
    start = next((number for number, line in enumerate(lines) if line.startswith("ERROR: ")), 0)
    own = [line for line in lines[start:] if not _NOISE.search(line)]
    text = "\n".join(own)
    cause = next((cause for cause in _CAUSES if re.search(cause.pattern, text)), _UNKNOWN)
    place = root.resolve()
    shown = listed(f"| {line.strip()}" for line in own) or "no output"
    return cause.error(
        cause.what or otherwise, where=place, found=shown, fix=cause.fix.format(root=shlex.quote(str(place)))
    )


def known_failure(lines: Sequence[str], root: Path) -> RepriseError | None:
    """Return such an error if its cause is known, and no stage has explained itself in an `error:` line."""
    if any(line.startswith("error: ") for line in lines):
        return None
    error = explain_failure(lines, root)
    return None if error.fix == _UNKNOWN.fix else error


def with_sentence(lines: Sequence[str], root: Path) -> list[str]:
    """Return the last output of a failed DVC, with its explanation below where one is known."""
    error = known_failure(lines, root)
    return [*lines, *(f"error: {error}".splitlines() if error else ())]


def last_lines(lines: Sequence[str], count: int = 40) -> list[str]:
    """Return the last lines of a failed command, preceded by its last five earlier error messages.

    Lines that the command wrote to its other stream may follow an error message, however many they are.
    """
    return [*[line for line in lines[:-count] if line.startswith("error: ")][-5:], *lines[-count:]]


def parse_outcome(name: str, lines: Sequence[str]) -> Outcome:
    """Read from DVC's output what it did with a stage."""
    if any(line.startswith(f"Stage '{name}' is cached") for line in lines):
        return Outcome.RESTORED
    if any(line.startswith(f"Running stage '{name}'") for line in lines):
        return Outcome.RAN
    return Outcome.CACHED
