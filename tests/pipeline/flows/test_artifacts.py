"""The pages that a flow attaches to its run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.compare.history.nights import read_nights
from pipeline.compare.revisions import Figure, Measurements
from pipeline.flows import artifacts
from pipeline.flows.artifacts import StageLine


def figures(name: str, values: dict[str, float]) -> Measurements:
    seeds = {"knn.top1": {run: {0: Figure(value, None, None)} for run, value in values.items()}}
    return Measurements(name, {run: {"knn.top1": value} for run, value in values.items()}, seeds)


def test_differences_name_what_changed_and_come_with_a_verdict(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("summary: {family: knn.top1}\n")
    before, now = (
        figures("previous run", {"left": 0.5, "gone": 0.1, "same": 0.3}),
        figures("now", {"left": 0.75, "same": 0.3}),
    )
    page = artifacts.difference_markdown(before, now, tmp_path)
    assert "| left | knn.top1 | 0.5000 | 0.7500 | +0.2500 | " in page
    assert "| gone | knn.top1 | 0.1000 | - |  |" in page
    assert "| same |" not in page
    assert "No metric changed" in artifacts.difference_markdown(now, now, tmp_path)
    assert "no previous run" in artifacts.difference_markdown(None, now, tmp_path)


def test_figures_are_remembered_as_they_were(tmp_path: Path) -> None:
    now = figures("previous run", {"left": 0.1 + 0.2})
    artifacts.store_figures(now, tmp_path)
    assert artifacts.load_previous_figures(tmp_path) == now
    (tmp_path / artifacts.PREVIOUS).write_text('{"means": 3}')
    assert artifacts.load_previous_figures(tmp_path) is None


def test_a_completed_run_is_a_night_of_the_history(tmp_path: Path) -> None:
    """Also where there is no git; a folder without figures leaves none."""
    artifacts.store_in_history(datetime(2026, 7, 3, 2, 41, tzinfo=UTC), tmp_path)
    assert read_nights(tmp_path) == ([], [])
    (tmp_path / "params.yaml").write_text("runs: [{name: left, method: x}]\n")
    (tmp_path / "metrics.json").write_text('{"left": {"knn": {"top1": 0.5}}}')
    artifacts.store_in_history(datetime(2026, 7, 3, 2, 41, tzinfo=UTC), tmp_path)
    (night,), unreadable = read_nights(tmp_path)
    assert unreadable == [] and night.commit == ""
    assert night.ended == datetime(2026, 7, 3, 2, 41, tzinfo=UTC)
    assert night.measured.means == {"left": {"knn.top1": 0.5}}
    assert night.inputs.parameters == {"runs": {"left": {"method": "x"}}}


def test_lineage_names_every_input_and_stage(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("x")
    page = artifacts.lineage_markdown(tmp_path, [StageLine("pretrain a", "ran", 3.25, 12_345_678, "why | not")])
    assert "unknown: this folder is not in a git repository" in page
    assert "sha256 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" in page
    assert "| params.yaml | absent |" in page
    assert "| pretrain a | ran | 3.2 | 12.3 MB | why \\| not |" in page


@pytest.mark.parametrize(("size", "shown"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000_000, "2.5 GB")])
def test_sizes(size: int, shown: str) -> None:
    assert artifacts.megabytes(size) == shown
