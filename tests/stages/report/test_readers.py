"""The readers: histories and folders of seeds."""

from __future__ import annotations

from pathlib import Path

from stages.report.readers.runs import read_history
from stages.report.readers.seed_folders import seed_folders


def test_history_reads_what_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,note\n1,2.5,x\n2,inf,\n3\n", encoding="utf-8")
    assert read_history(path) == {"epoch": (1, 2, 3), "loss": (2.5, None, None), "note": (None, None, None)}
    path.write_text("", encoding="utf-8")
    assert read_history(path) == {}


def test_seeds_sort_as_numbers(tmp_path: Path) -> None:
    for name in ("a/10", "a/9", "a/x", "b/0", ".partial-c/٣"):
        (tmp_path / name).mkdir(parents=True)
    assert [(name, seed) for name, seed, _ in seed_folders(tmp_path)] == [("a", 9), ("a", 10), ("b", 0)]
