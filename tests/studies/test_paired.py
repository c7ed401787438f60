"""How studies say differences over seeds: equal ones, missing figures, and the tables of each study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reprise.measures.statistics import paired_t
from studies import captions, labels, learned_clusters, relations, symmetry, transforms2d, views
from studies.paired import said

ROOT = Path(__file__).resolve().parents[2]
EQUAL = [2.0, 2.0, 2.0]


def seeds(figure: str, values: list[float]) -> dict[int, dict[str, float]]:
    return {seed: {figure: value} for seed, value in enumerate(values)}


def test_a_difference_has_its_mean_its_interval_and_a_verdict() -> None:
    low, high = paired_t([1.0, 2.0, 3.0]).interval
    assert low is not None and high is not None
    assert said([1.0, 2.0, 3.0], 2) == ("+2.00", f"{low:+.2f} to {high:+.2f}", "not shown")
    assert said([9.0, 10.0, 11.0])[::2] == ("+10.0", "above")
    assert said([-9.0, -10.0, -11.0])[::2] == ("-10.0", "below")
    assert said(EQUAL) == ("+2.0", "no interval", "not shown")


def test_equal_differences_are_said_by_every_study() -> None:
    """They leave no interval, and each table is written nevertheless."""
    clusters = {
        seed: {name: {"accuracy": v, "nmi": v} for name, v in (("tcc", 3.0), ("pixels", 1.0))} for seed in (0, 1)
    }
    sets: list[dict[str, Any]] = [{"own": ["blur"], "others": ["hue"], "same": 3.0, "disjoint": 1.0}] * 2
    chosen = labels.Study({}, [("a", "b")], ("knn",), [], 0)
    ours, theirs = seeds("knn", [3.0, 3.0]), seeds("knn", [1.0, 1.0])
    a, b = captions.PAIRS[0]
    named = {name: seeds(captions.FIGURES[0], [v, v]) for name, v in ((a, 3.0), (b, 1.0))}
    comparison = views.Comparison("row", "question", "a", "b")
    for written in (
        learned_clusters.tables(clusters),
        transforms2d.tables(sets, {}),
        labels.tables({"a": ours, "b": theirs}, chosen),
        captions.tables(named),
        views._row(comparison, "knn", EQUAL),
        symmetry.table({"a": [{"knn": 3.0}] * 2, "b": [{"knn": 1.0}] * 2}),
    ):
        assert "+2.0" in written and "no interval" in written


def test_a_missing_figure_is_left_out_and_counted() -> None:
    found = {
        "closed": {0: {"kNN": 30.0}, 1: {}, 2: {"kNN": 40.0}, 3: {"kNN": 50.0}},
        "inter": {0: {"kNN": 20.0}, 1: {"kNN": 90.0}, 2: {}, 3: {"kNN": 30.0}},
    }
    written = relations.tables("transitive", found)
    assert "| closed | 4 | kNN 40.0 (3 of 4 seeds) |" in written
    assert "| closed against inter | kNN | 2 | +15.0 |" in written
    clusters = {0: {"tcc": {"nmi": 5.0}, "pixels": {"nmi": 3.0, "accuracy": 1.0}}, 1: {"tcc": {"nmi": 6.0}}}
    assert "| tcc | 2 | none, none | 5.0, 6.0 |" in learned_clusters.tables(clusters)


def test_wrong_pairs_have_the_four_rows_of_the_page() -> None:
    found = {
        f"{pairs} pairs, power {power}": seeds("rank-1", [10.0 * power, 10.0 * power + 1])
        for pairs in ("right", "wrong")
        for power in (0, 1)
    }
    rows = [line.split(" | ")[0].strip("| ") for line in relations.tables("reliability", found).splitlines()]
    page = (ROOT / "docs/measurements/relations.md").read_text(encoding="utf-8")
    shown = page.partition("## Wrong pairs")[2].partition("## Closed pairs")[0]
    compared = [
        line.split(" | ")[0].strip("| ") for line in shown.splitlines() if " against " in line and line[0] == "|"
    ]
    assert [row for row in rows if " against " in row] == compared
    assert len(compared) == 4


def test_a_study_of_symmetries_writes_what_it_has(tmp_path: Path) -> None:
    found = [{"error_without": 0.0108, "error": 0.0072}, {"error_without": 0.0110, "error": 0.0072}]
    symmetry.write({"strengths": found[:1]}, tmp_path, "strengths")
    assert json.loads((tmp_path / "strengths.json").read_text()) == {"strengths": found[:1]}
    symmetry.write({"strengths": found}, tmp_path, "strengths")
    assert "error is less by +0.0037 [+0.0024, +0.0050], over 2 seeds" in (tmp_path / "strengths.md").read_text()
    symmetry.write({"with": [{"knn": 3.0}] * 2, "without": [{"knn": 1.0}]}, tmp_path, "affine")  # a seed half done
    assert "difference" not in (tmp_path / "affine.md").read_text()
