"""The section between runs: squares of figures, absent and damaged files, hostile names, many sides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from reprise.config.errors import ResultError
from reprise.storage.atomic import write_json
from stages.report.between import BETWEEN, MOST_SIDES, Square, read_between, sections, square_map
from stages.report.gather import gather
from stages.report.page import render
from tests.stages.report.conftest import Build


def told(names: list[str], value: Any = 0.25, metric: str = "cka_debiased") -> dict[str, Any]:
    rows = [[1.0 if i == j else value for j in range(len(names))] for i in range(len(names))]
    probe = {
        "about": "1: alike",
        "symmetric": True,
        "protocol": {"tap": "backbone"},
        "overall": {"kept": 0.5},
        "metrics": {metric: rows, "other": rows},
    }
    return {"sides": [{"name": n, "run": n, "seed": 0} for n in names], "probes": {"similarity": probe}}


def write(value: Any) -> None:
    write_json(BETWEEN, value)


def test_absent_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_between() is None
    assert sections(None) is None
    write(told(["a"]) | {"probes": {}})
    assert sections(read_between()) is None


def test_squares_first_metrics_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(told(["a", "b"]))
    found = sections(read_between())
    assert found is not None
    assert [chart[1] for chart in found["first"]] == ["cka_debiased"]
    assert [chart[1] for chart in found["further"]] == ["other"]
    assert found["overall"] == [("similarity", "kept", "0.500")]
    assert found["protocol"] == (("similarity", "tap", "backbone"),)


def test_every_cell_shows_its_figure_and_shades_by_it() -> None:
    drawing = square_map(Square("p", "m", "", ("left", "right"), ((1.0, 0.25), (None, -0.5))))
    root = ET.fromstring(str(drawing))
    words = [e.text for e in root.iter() if e.tag.endswith("text") and "count" in (e.get("class") or "")]
    assert words == ["1.00", "0.25", "–", "-0.50"]
    shades = [float(e.get("fill-opacity", 0)) for e in root.iter() if e.get("class") == "right"]
    assert shades == pytest.approx([0.96, 0.06 + 0.9 * 0.5, 0.06])
    assert "left, right: 0.250" in drawing
    assert "12" in square_map(Square("p", "m", "", ("a",), ((12.3,),)))


def test_many_sides_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(told([f"run {i}" for i in range(MOST_SIDES + 5)]))
    between = read_between()
    assert between is not None
    assert between.left_out == 5
    assert {len(s.names) for s in between.squares} == {len(s.values) for s in between.squares} == {MOST_SIDES}


@pytest.mark.parametrize(
    "damaged",
    [
        {"sides": [{"name": "a"}]},
        told(["a", "b"], "x"),
        told(["a", "b"]) | {"sides": [{"name": "a"}]} | {"probes": 3},
        told(["a", "b"]) | {"sides": [{"name": "a"}, {"name": "b"}, {"name": "c"}]},
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, monkeypatch, damaged: dict[str, Any]) -> None:
    monkeypatch.chdir(tmp_path)
    write(damaged)
    with pytest.raises(ResultError, match=re.escape(BETWEEN.name)):
        read_between()


def test_on_the_page_names_are_text(build: Build) -> None:
    build()
    page = render(gather(), 24).decode()
    assert "Runs were not compared with each other" in page
    write(told(["<script>alert(1)</script>", "simclr"]))
    page = render(gather(), 24).decode()
    assert "<script>alert" not in page
    assert "similarity.cka_debiased" in page
    assert "similarity.kept 0.500" in page
    assert page.count('class="chart heatmap"') >= 2
