"""The edits of `tests.faults.edit_many` change the files that they are meant for."""

from __future__ import annotations

import pytest

from tests.faults.edit_many import FILES, PARAMETERS, REPOSITORY, edited


@pytest.mark.parametrize("name", [*PARAMETERS, *(name for name in FILES if (REPOSITORY / name).is_file())])
def test_an_edit_finds_its_place(name: str) -> None:
    before = (REPOSITORY / ("params.yaml" if name in PARAMETERS else name)).read_bytes()
    assert edited(name, before) != before
