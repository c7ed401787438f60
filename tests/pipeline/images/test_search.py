"""What `reprise search` refuses before it starts a process, and how it shows what was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.images.chosen_run import ChosenRun
from pipeline.images.search import rows_of, search
from reprise.artifacts import layout
from reprise.config.errors import ParameterError, ResultError


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=r"there is no such image \(nowhere.jpg\)"):
        search(Path("nowhere.jpg"), ChosenRun("simclr", 0), 3, None)
    Path("a.jpg").touch()
    layout.run("simclr", 0).mkdir(parents=True)
    with pytest.raises(ResultError, match="has not been trained and embedded with seed 0"):
        search(Path("a.jpg"), ChosenRun("simclr", 0), 3, None)


def test_a_row_says_whether_it_is_the_image_itself() -> None:
    found = [
        {"rank": 1, "similarity": 1.0, "path": "a.jpg", "is_the_image": True},
        {"rank": 2, "similarity": 0.91237, "path": "b.jpg", "is_the_image": False},
    ]
    assert rows_of(found) == [["1", "1.0000", "a.jpg (the same file)"], ["2", "0.9124", "b.jpg"]]
