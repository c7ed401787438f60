"""The section `watches`: what the file of a run holds is drawn, and a run without it is not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reprise.config.errors import ResultError
from stages.pretrain.monitoring.watching import write_watches
from stages.report.readers.runs import Run, read_watched
from stages.report.section_registry import Absent
from stages.report.sections.watches import MOST_CHARTS, MOST_POINTS, show, watched_of
from tests.stages.report.conftest import one_seed, seed_run


def test_what_pretraining_writes_is_what_the_section_draws(tmp_path: Path) -> None:
    file = tmp_path / "watches.csv"
    write_watches(file, [(0, 0, "scale", "growth", 0.5), (0, 0, "x<y", "a", None), (2, 10, "scale", "growth", 1.25)])
    watched = read_watched(file)
    assert watched == {"scale: growth": ((0.0, 0.5), (2.0, 1.25)), "x<y: a": ((0.0, None),)}
    run = Run("a", (replace(seed_run("a", 0.5), watched=watched), seed_run("a", 0.5, 1)))
    content = show((run, one_seed("b", 0.5)))
    assert not isinstance(content, Absent)
    (item,) = content["watched"]
    assert (item.run, len(item.charts), item.left_out) == ("a", 2, 0)
    assert "scale: growth" in item.charts[0]
    assert "x&lt;y" in item.charts[1]
    write_watches(file, [])
    assert read_watched(file) == {}


def test_a_report_without_watches_says_so_in_one_line() -> None:
    content = show((one_seed("a", 0.5),))
    assert content == Absent("No run was watched: `train.watches` names no watch.")


def test_many_figures_and_long_trainings_are_cut_down_and_counted() -> None:
    points = tuple((float(i), float(i)) for i in range(5000))
    run = Run("a", (replace(seed_run("a", 0.5), watched={f"w: f{i:02d}": points for i in range(MOST_CHARTS + 3)}),))
    (item,) = watched_of((run,))
    assert (len(item.charts), item.left_out) == (MOST_CHARTS, 3)
    assert item.charts[0].count("L") <= MOST_POINTS + 5
    assert "4,999" in item.charts[0]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "watches.csv").write_text("epoch,value\n1,2\n")
    with pytest.raises(ResultError, match=r"not a table.*watches\.csv.*dvc repro pretrain"):
        read_watched(tmp_path / "watches.csv")
