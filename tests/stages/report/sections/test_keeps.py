"""What each run keeps: figures of the probe `keeps` as a table of runs and facts, and nothing where it did not run."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from stages.report.drawing.heat import CELL, decimals, heat_table
from stages.report.readers.runs import Figure, Run, SeedRun
from stages.report.section_registry import Absent
from stages.report.sections.keeps import METRIC, MOST_FACTS, MOST_RUNS, facts_of, show
from tests.stages.report.conftest import seed_run

FACTS = {"hue": 0.25, "class": 0.9, "<b>": -0.1}


def run_of(name: str, figures: dict[str, float], seeds: int = 1) -> Run:
    found = []
    for seed in range(seeds):
        one = seed_run(name, 0.5, seed=seed)
        kept = {METRIC + fact: Figure(v + 0.1 * seed, v - 0.2, v + 0.2, 50) for fact, v in figures.items()}
        protocol = {"keeps": {"left out": "title"}}
        found.append(SeedRun(**{**vars(one), "figures": {**one.figures, **kept}, "protocol": protocol}))
    return Run(name, tuple(found))


def test_the_class_comes_first_and_a_run_that_was_not_probed_is_left_out() -> None:
    runs = (run_of("a", FACTS), run_of("none", {}), run_of("b", {"hue": 0.5}))
    assert facts_of(runs) == ["class", "hue", "<b>"]
    content = show(runs, None)
    assert isinstance(content, dict)
    assert [row.run for row in content["rows"]] == ["a", "b"]
    assert content["rows"][0].cells == (("0.900", "[0.700, 1.100]", True), ("0.250", "[0.050, 0.450]", False),
                                        ("−0.100", "[−0.300, 0.100]", True))  # fmt: skip
    assert content["rows"][1].cells[0] == ("–", "", False)
    assert content["rows"][1].cells[1][2]
    assert content["left_out"] == "title"


def test_seeds_are_averaged_and_then_have_no_interval_before_the_summary() -> None:
    content = show((run_of("a", {"hue": 0.2}, seeds=2),), None)
    assert isinstance(content, dict)
    assert content["rows"][0].cells == (("0.250", "", True),)
    assert content["seeds"] == 2


def test_without_the_probe_the_section_is_absent() -> None:
    assert isinstance(show((run_of("a", {}),), None), Absent)
    assert isinstance(show((), None), Absent)


def test_the_drawing_has_a_cell_for_each_pair_and_names_are_escaped() -> None:
    drawing = heat_table(["a", "b"], ["class", "<b>"], [[1.0, -0.2], [None, 0.5]], "title")
    root = ET.fromstring(str(drawing))
    space = "{http://www.w3.org/2000/svg}" if root.tag.startswith("{") else ""
    cells = [rect for rect in root.iter(f"{space}rect") if rect.get("class") == "cell"]
    shades = [float(rect.get("fill-opacity", "")) for rect in root.iter(f"{space}rect") if rect.get("class") == "right"]
    assert len(cells) == 4
    assert shades == [pytest.approx(0.96), pytest.approx(0.51)]  # nothing for -0.2 and for no figure
    assert {float(rect.get("width", "")) for rect in cells} == {CELL - 1}
    assert re.findall(r'class="count[^"]*">([^<]*)<', str(drawing)) == ["1.00", "−0.20", "–", "0.50"]
    assert "<b>" not in str(drawing)


def test_figures_near_zero_have_no_minus_and_no_exponent() -> None:
    assert [decimals(v, 3) for v in (-0.0001, 0.0002, -0.0006, 1.0)] == ["0.000", "0.000", "−0.001", "1.000"]


def test_more_runs_and_facts_than_a_page_takes_are_counted() -> None:
    runs = tuple(run_of(f"run{i}", {f"fact{j}": 0.5 for j in range(MOST_FACTS + 3)}) for i in range(MOST_RUNS + 2))
    content = show(runs, None)
    assert isinstance(content, dict)
    assert (content["left_out_runs"], content["left_out_facts"]) == (2, 3)
    assert (len(content["rows"]), len(content["facts"])) == (MOST_RUNS, MOST_FACTS)
