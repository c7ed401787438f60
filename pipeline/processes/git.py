"""Run git, and say in a sentence why it fails, with git's own text below it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.processes.commands import environment
from reprise.config.errors import GitError, listed


class _Cause(NamedTuple):
    """A cause of failures.

    Attributes:
        pattern: how the failure shows in git's text.
        what: the failure in words.
        fix: what a person can do; `{root}` is the folder.
    """

    pattern: str
    what: str
    fix: str


_CAUSES = (
    _Cause(
        r"dubious ownership|unsafe repository",
        "git does not trust this repository, because it belongs to another user",
        "If you trust its owner, tell git so: `git config --global --add safe.directory {root}`.",
    ),
    _Cause(
        r"not a git repository",
        "this folder is not in a git repository",
        "Work in a clone, or make one of it: `git init && git add --all && git commit`.",
    ),
    _Cause(
        r"does not have any commits|Needed a single revision|ambiguous argument 'HEAD'|bad revision 'HEAD'",
        "there is no commit yet",
        "Commit the project: `git add --all && git commit`.",
    ),
    _Cause(
        r"\.lock': File exists|cannot lock ref",
        "another git process works in this repository",
        "Wait until it ends and try again; git's text names the file that a killed git may have left.",
    ),
    _Cause(r"No space left|Disk quota", "git cannot write: there is no space left", "Free some space and try again."),
    _Cause(r"Read-only file system", "git cannot write: the file system is read-only", "Mount it writable."),
    _Cause(
        r"Permission denied|insufficient permission",
        "git may not read or write its files",
        "Give yourself permission on the files that git's text names (`ls -l` shows their owner).",
    ),
    _Cause(
        r"bad config|bad boolean config|bad numeric config|unable to parse .*config",
        "git cannot read its settings",
        "Correct the line that git's text names.",
    ),
    _Cause(
        r"corrupt|bad object|loose object|object file .* is empty|unable to read tree|inflate",
        "the git repository is damaged",
        "Run `git fsck`, and restore what it names from another clone.",
    ),
)
_UNKNOWN = _Cause("", "git failed", "Read git's text; run the same command by hand to see more.")


def git(*arguments: str, cwd: Path, index: Path | None = None) -> str:
    """Run git and return its standard output.

    Args:
        arguments: of git.
        cwd: where it runs.
        index: a file that it uses in place of the repository's index, which then stays as it is.

    Returns:
        The output; an empty text if git ended with status 1 and without a word, as `rev-parse --quiet` does for a name
        that does not exist.

    Raises:
        GitError: git is missing, or it failed; the message holds git's own text.
    """
    command = ["git", *arguments]
    settings = {**environment(), "LANGUAGE": "en", "GIT_TERMINAL_PROMPT": "0"}
    settings |= {"GIT_INDEX_FILE": str(index)} if index else {}
    try:
        done = subprocess.run(
            command, cwd=cwd, env=settings, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except FileNotFoundError as error:
        if not cwd.is_dir():
            raise
        raise GitError(
            "git is not installed, or not on PATH",
            where=cwd,
            found=f"PATH={os.environ.get('PATH', '')}",
            fix="Install git, or add its folder to PATH.",
        ) from error
    output, text = (stream.decode("utf-8", "surrogateescape") for stream in (done.stdout, done.stderr))
    if done.returncode == 0:
        return output
    if done.returncode == 1 and not text.strip():
        return ""
    raise _failure(command, cwd, done.returncode, [line.strip() for line in text.splitlines() if line.strip()])


def _failure(command: Sequence[str], cwd: Path, status: int, lines: Sequence[str]) -> GitError:
    text = "\n".join(lines)
    cause = next((cause for cause in _CAUSES if re.search(cause.pattern, text)), _UNKNOWN)
    root = cwd.resolve()
    shown = [f"{' '.join(command)} ended with status {status}", *(f"| {line}" for line in lines)]
    return GitError(cause.what, where=root, found=listed(shown), fix=cause.fix.format(root=shlex.quote(str(root))))
