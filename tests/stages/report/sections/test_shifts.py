"""The section Under shift: its figures restated, seeds averaged, names escaped, and no section without shifts."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow as pa
import pytest

from reprise.config.errors import ResultError
from reprise.measures.statistics import bootstrap_mean, difference_of_shares, wilson
from stages.probe.under_shift import ANSWERS as WRITTEN
from stages.report.drawing.charts import Estimate
from stages.report.drawing.severities import BySeverity, severity_chart
from stages.report.readers.runs import Figure, Run, SeedRun
from stages.report.readers.shifts import ANSWERS, read_shifted
from stages.report.section_registry import Absent
from stages.report.sections import shifts as section
from tests.stages.report.conftest import Build, rendered, seed_run

IMAGES = 40
SETS = (("fog1", "fog", 1), ("fog5", "fog", 5), ("jpeg1", "jpeg", 1), ("jpeg5", "jpeg", 5), ("site_b", "folder", None))


def answers(seed: int, sets: tuple[tuple[str, str, int | None], ...] = SETS) -> pa.Table:
    """A probe's table in which fewer images are answered right the severer the shift."""
    rng = np.random.default_rng(seed)
    clean = rng.random(IMAGES) < 0.9
    rows = []
    for name, shift, severity in sets:
        correct = clean & (rng.random(IMAGES) < 1 - 0.15 * (severity or 2))
        for i in range(IMAGES):
            known = bool(clean[i]) if severity else None
            rows.append((name, shift, severity, f"{i:024x}", None, bool(correct[i]), known))
    return pa.Table.from_pylist([dict(zip(ANSWERS.names, row, strict=True)) for row in rows], ANSWERS)


def write(run: str, seed: int, table: pa.Table, probe: str = "shifted_knn") -> None:
    import pyarrow.parquet as pq

    folder = Path(f"data/probe/_shifts/shift/{run}/{seed}")
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / f"{probe}.parquet")


def run_of(name: str, *seeds: int) -> Run:
    protocol = {"shifted_knn": {"confidence": "0.95", "site_b": "12 images <b>were left out</b>."}}
    found = []
    for seed in seeds:
        one = seed_run(name, 0.5, seed=seed)
        figures = {**one.figures, "shifted_knn.clean": Figure(0.9, 0.8, 0.95, IMAGES)}
        found.append(SeedRun(**{**vars(one), "protocol": protocol, "figures": figures}))
    return Run(name, tuple(found))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_form_is_that_of_the_probes() -> None:
    assert ANSWERS.equals(WRITTEN)


def test_one_seed_has_the_figures_of_its_probe(here) -> None:
    table = answers(0)
    write("simclr", 0, table)
    run = run_of("simclr", 0)
    content = section.show(read_shifted([run]), (run,))
    (probed,) = content["probes"]
    rows = table.to_pylist()
    right = {name: np.array([r["correct"] for r in rows if r["set"] == name]) for name, _, _ in SETS}
    clean = np.array([r["clean"] for r in rows if r["set"] == "fog5"])
    assert [row.name for row in probed.corruptions] == ["fog1", "fog5", "jpeg1", "jpeg5"]
    assert probed.corruptions[1].what == "fog, severity 5"
    low, high = wilson(int(right["fog5"].sum()), IMAGES)
    falls = bootstrap_mean(clean.astype(float) - right["fog5"])
    ((value, interval, change, of_change),) = probed.corruptions[1].cells
    assert value == f"{right['fog5'].mean():.3f}"
    assert interval == f"[{low:.3f}, {high:.3f}]"
    sign = lambda x: f"{100 * x:+.1f}".replace("-", "−")  # noqa: E731
    assert change == sign(right["fog5"].mean() - clean.mean())
    assert of_change == f"[{sign(-falls.high)}, {sign(-falls.low)}]"
    assert [row.what for row in probed.sources] == ["folder"]
    ends = wilson(int(clean.sum()), IMAGES), wilson(int(right["site_b"].sum()), IMAGES)
    fall = difference_of_shares(clean.mean(), ends[0], right["site_b"].mean(), ends[1])
    assert probed.sources[0].cells[0][3] == f"[{sign(-fall.high)}, {sign(-fall.low)}]"
    assert probed.notes == (("site_b", "12 images <b>were left out</b>."),)
    mean = section._mean_line(read_shifted([run])[0], Estimate("simclr", 1.0), 0.95)
    assert [severity for severity, _ in mean.points] == [0, 1, 5]
    assert mean.points[2][1].value == pytest.approx((right["fog5"].mean() + right["jpeg5"].mean()) / 2)
    assert len(probed.charts) == 3  # the mean, fog and jpeg


def test_seeds_are_averaged_image_by_image(here) -> None:
    tables = [answers(seed) for seed in range(3)]
    for seed, table in enumerate(tables):
        write("simclr", seed, table)
    run = run_of("simclr", 0, 1, 2)
    (found,) = read_shifted([run])
    fog = found.sets[1]
    assert fog.correct.shape == (3, IMAGES)
    estimate = section.estimated(fog.correct, None, 0.95)
    assert estimate.value == pytest.approx(fog.correct.mean())
    assert (estimate.low, estimate.high) == pytest.approx(bootstrap_mean(fog.correct.mean(0)))
    assert len(estimate.seeds) == 3
    write("simclr", 1, answers(1, SETS[:2]))
    with pytest.raises(ResultError, match="different images"):
        read_shifted([run])


def test_without_shifts_there_is_a_sentence(here) -> None:
    assert read_shifted([run_of("simclr", 0)]) == ()
    assert isinstance(section.show((), ()), Absent)


def test_a_source_alone_takes_the_clean_figure_of_the_probe(here) -> None:
    write("simclr", 0, answers(0, SETS[4:]))
    run = run_of("simclr", 0)
    (probed,) = section.show(read_shifted([run]), (run,))["probes"]
    assert probed.clean == (("0.900", "[0.800, 0.950]"),)
    assert probed.charts == ()
    assert probed.corruptions == ()


def test_charts_escape_names_and_stay_inside() -> None:
    points = tuple((s, Estimate("", 0.9 - 0.1 * s, 0.8 - 0.1 * s, 1 - 0.1 * s)) for s in (0, 1, 3, 5))
    drawing = severity_chart([BySeverity("<i>a</i>", points), BySeverity("b", points)], "fog & <rain>")
    root = ET.fromstring(str(drawing))
    assert "<i>a</i>, severity 3: 0.600 [0.500, 0.700]" in [e.text for e in root.iter() if e.tag.endswith("title")]
    for circle in [e for e in root.iter() if e.tag.endswith("circle")]:
        assert 0 < float(circle.get("cx")) < 300
        assert 0 < float(circle.get("cy")) < 200
    assert len([e for e in root.iter() if e.tag.endswith("path")]) == 2


def test_the_page_shows_the_section_with_hostile_words_escaped(build: Build) -> None:
    build()
    assert "No run was measured on shifted images" in rendered().decode()
    hostile = (("fog1", "<script>fog", 1), ("fog2", "<script>fog", 2), ("site", "folder", None))
    for run in ("random", "simclr", "gsimclr"):
        write(run, 0, answers(1, hostile))
    page = rendered().decode()
    (shown,) = re.findall(r'<section[^>]*id="shifts".*?</section>', page, re.DOTALL)
    assert "Accuracy on images from elsewhere" in shown
    assert "&lt;script&gt;fog" in shown
    assert "<script>fog" not in page
    assert rendered().decode() == page
