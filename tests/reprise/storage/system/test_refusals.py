"""What the system refuses is a sentence; what may be a defect is not."""

from __future__ import annotations

import errno
import os

import pytest

from reprise.storage.system.refusals import refusal


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (errno.EACCES, "this process has no permission"),
        (errno.EPERM, "this process has no permission"),
        (errno.EROFS, "the file system is read-only"),
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EMFILE, "this process has too many open files"),
        (errno.EAGAIN, "the system starts no further process"),
        (errno.EIO, "the disk reports an error"),
        (errno.ESTALE, "the file system lost this file"),
        (errno.ENAMETOOLONG, "a name is too long"),
    ],
)
def test_the_systems_refusals(code: int, what: str) -> None:
    said = str(refusal(OSError(code, os.strerror(code), "a", None, "b\x1b")))
    assert said.startswith(what)
    assert "(a -> b\\x1b)" in said
    assert f"Found: {os.strerror(code)}." in said


def test_without_a_path_the_folder_is_named_even_one_that_was_removed(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path) in str(refusal(OSError(errno.ENOSPC, "full")))
    tmp_path.rmdir()
    assert "a folder that was removed" in str(refusal(OSError(errno.ENOSPC, "full")))


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "x"), TimeoutError(errno.ETIMEDOUT, "x"), OSError("x")]
)
def test_what_may_be_a_defect(error: OSError) -> None:
    assert refusal(error) is None
