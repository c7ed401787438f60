"""The comparison of representations: squares of figures, absent and damaged files, hostile names, many encoders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from reprise.config.errors import ResultError
from reprise.storage.atomic import write_json
from stages.report.readers.representations import COMPARISON, Square, read_representations
from stages.report.section_registry import Absent
from stages.report.sections.representations import MOST_ENCODERS, show, square_map
from tests.stages.report.conftest import Build, rendered


def comparison(names: list[str], value: Any = 0.25, metric: str = "cka_debiased") -> dict[str, Any]:
    rows = [[1.0 if i == j else value for j in range(len(names))] for i in range(len(names))]
    probe = {
        "caption": "1: alike",
        "symmetric": True,
        "protocol": {"tap": "backbone"},
        "overall": {"kept": 0.5},
        "metrics": {metric: rows, "other": rows},
    }
    return {"encoders": [{"name": n, "run": n, "seed": 0} for n in names], "probes": {"similarity": probe}}


def write(value: Any) -> None:
    write_json(COMPARISON, value)


def one_line() -> dict[str, Any]:
    """What the section hands to its template."""
    content = show(read_representations())
    assert isinstance(content, dict)
    return content


def test_without_a_comparison_the_section_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_representations() is None
    assert isinstance(show(None), Absent)
    write(comparison(["a"]) | {"probes": {}})
    assert isinstance(show(read_representations()), Absent)


def test_where_no_probe_could_run_the_section_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    empty = {"caption": "", "symmetric": True, "overall": {}, "metrics": {}}
    few = empty | {"protocol": {"note": "not run: a comparison needs 20 images"}}
    write(comparison(["a"]) | {"probes": {"similarity": few, "matching": few}})
    content = show(read_representations())
    assert content == Absent("The representations were not compared: a comparison needs 20 images.")


def test_the_first_metrics_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(comparison(["a", "b"]))
    content = one_line()
    assert [chart[1] for chart in content["first"]] == ["cka_debiased"]
    assert [chart[1] for chart in content["further"]] == ["other"]
    assert content["overall"] == [("similarity", "kept", "0.500")]
    assert content["protocol"] == (("similarity", "tap", "backbone"),)


def test_every_cell_shows_its_figure_and_shades_by_it() -> None:
    drawing = square_map(Square("p", "m", "", ("left", "right"), ((1.0, 0.25), (None, -0.5))))
    root = ET.fromstring(str(drawing))
    words = [e.text for e in root.iter() if e.tag.endswith("text") and "count" in (e.get("class") or "")]
    assert words == ["1.00", "0.25", "–", "-0.50"]
    shades = [float(e.get("fill-opacity", 0)) for e in root.iter() if e.get("class") == "right"]
    assert shades == pytest.approx([0.96, 0.06 + 0.9 * 0.5, 0.06])
    assert "left, right: 0.250" in drawing
    assert "12" in square_map(Square("p", "m", "", ("a",), ((12.3,),)))


def test_many_encoders_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(comparison([f"run {i}" for i in range(MOST_ENCODERS + 5)]))
    content = one_line()
    assert content["left_out"] == 5
    for *_, chart in content["first"] + content["further"]:
        assert chart.count('class="cell"') == MOST_ENCODERS**2
        assert f"run {MOST_ENCODERS - 1}" in chart
        assert f"run {MOST_ENCODERS}<" not in chart


@pytest.mark.parametrize(
    "damaged",
    [
        {"encoders": [{"name": "a"}]},
        comparison(["a", "b"], "x"),
        comparison(["a", "b"]) | {"encoders": [{"name": "a"}]} | {"probes": 3},
        comparison(["a", "b"]) | {"encoders": [{"name": "a"}, {"name": "b"}, {"name": "c"}]},
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, monkeypatch, damaged: dict[str, Any]) -> None:
    monkeypatch.chdir(tmp_path)
    write(damaged)
    with pytest.raises(ResultError, match=re.escape(COMPARISON.name)):
        read_representations()


def test_on_the_page_names_are_text(build: Build) -> None:
    build()
    page = rendered().decode()
    assert "The representations were not compared" in page
    write(comparison(["<script>alert(1)</script>", "simclr"]))
    page = rendered().decode()
    assert "<script>alert" not in page
    assert "similarity.cka_debiased" in page
    assert "similarity.kept 0.500" in page
    assert page.count('class="chart heatmap"') >= 2
