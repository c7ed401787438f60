"""Tars written by hand are tars to everybody else."""

from __future__ import annotations

import io
import tarfile

import pytest

from reprise.storage import ustar


def test_ustar_is_what_tarfile_reads_and_says() -> None:
    data = ustar.member("a.png", b"hello") + ustar.member("b" * 96 + ".bin", bytes(range(256)) * 4) + ustar.END
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
        assert [(m.name, m.size, m.mtime, m.uid, m.isreg()) for m in members] == [
            ("a.png", 5, 0, 0, True),
            ("b" * 96 + ".bin", 1024, 0, 0, True),
        ]
        assert archive.extractfile(members[1]).read() == bytes(range(256)) * 4
    assert len(data) == ustar.member_size(5) + ustar.member_size(1024) + len(ustar.END)
    with pytest.raises(ValueError, match="100 characters"):
        ustar.header("x" * 101, 1)
