"""Keep the random texts that open the pages of `make serve`: a password for Prefect's server, a path for the report.

Only the owner of the folder can read them. They reach processes through files and environment variables, never through
a command line, which every user of the machine can list.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from pipeline.graph.workspace import STATE
from reprise.config.errors import GraphError, ParameterError
from reprise.storage.atomic import explained_storage

HOME = STATE / "prefect"
PASSWORD = HOME / "password"  # of the server that runs, in the form that Prefect asks for: name:password
REPORT_TOKEN = HOME / "report-token"
SERVER_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
CLIENT_VARIABLE = "PREFECT_API_AUTH_STRING"
_BYTES = 32
_LONGEST = 4096


def make_password() -> str:
    """Return a new password for a server, "reprise:" and 43 random characters."""
    return f"reprise:{secrets.token_urlsafe(_BYTES)}"


def configured_password() -> str | None:
    """Return the password that the user has chosen for the server, or None.

    Raises:
        ParameterError: Prefect cannot compare such a text with what a client sends.
    """
    chosen = os.environ.get(SERVER_VARIABLE) or None
    if chosen is not None and not (chosen.isascii() and chosen.isprintable() and ":" in chosen and " " not in chosen):
        raise ParameterError(
            "the password of Prefect's server must be a name, a colon and a password, without spaces, in ASCII",
            where=SERVER_VARIABLE,
            found=f"a text of {len(chosen)} characters that does not have this form",
            fix="Correct it, or unset the variable: a random password is made then.",
        )
    return chosen


def report_token(root: Path) -> str:
    """Return the secret part of the report's address; it stays the same, so that links in old runs stay valid."""
    with suppress(FileNotFoundError):
        return read_secret(root / REPORT_TOKEN)
    token = secrets.token_urlsafe(_BYTES)
    write_secret(root / REPORT_TOKEN, token)
    return token


def write_secret(path: Path, text: str) -> None:
    """Write a text atomically into a file that only its owner can read.

    Raises:
        StorageError: the folder cannot be written to.
        GraphError: the file system lets other users read the file.
    """
    partial = path.with_name(f".partial-{path.name}")
    with explained_storage(path):
        make_private_folder(path.parent)
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _require_private(descriptor, path)
            os.write(descriptor, f"{text}\n".encode("ascii"))
            os.fsync(descriptor)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        os.replace(partial, path)


def read_secret(path: Path) -> str:
    """Return the text of a file that `write_secret` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        GraphError: other users can read the file, or it is no text.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        _require_private(descriptor, path)
        text = os.read(descriptor, _LONGEST)
    finally:
        os.close(descriptor)
    secret = text.decode("ascii", "replace").strip()
    if not secret or not secret.isascii() or not secret.isprintable():
        raise GraphError(
            "a file with a secret is damaged",
            where=path,
            found=f"{len(text)} bytes that are no line of text",
            fix="Delete the file, then start `reprise flows serve` again.",
        )
    return secret


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner may enter; Prefect's database in it holds the values of Secret blocks."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)


def _require_private(descriptor: int, path: Path) -> None:
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise GraphError(
            "a file with a secret must be readable by its owner only",
            where=path,
            found=stat.filemode(mode),
            fix="Delete the file and start `reprise flows serve` again; work on a file system that keeps permissions.",
        )
