"""The surest mistakes with their files, and the confidence of a probe beside its accuracy."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from stages.report.drawing.reliability import reliability_chart
from stages.report.readers.runs import Predictions
from stages.report.reliability import reliability
from stages.report.section_registry import Absent
from stages.report.sections.mistakes import show
from tests.stages.report.conftest import Build, one_seed, rendered


def predictions(scores: list[float | None], right: list[bool]) -> Predictions:
    keys = tuple(f"k{i}" for i in range(len(right)))
    return Predictions("linear", ("x",) * len(right), tuple("x" if r else "y" for r in right), keys, tuple(scores))


def test_the_error_is_the_gap_of_each_bin_weighted_by_its_images() -> None:
    rng = np.random.default_rng(0)
    scores, right = rng.random(500), rng.random(500) < 0.7
    found = reliability(predictions(scores.tolist(), right.tolist()))
    assert found
    naive = 0.0
    for i in range(10):
        chosen = (scores >= i / 10) & (scores < (i + 1) / 10)
        naive += chosen.sum() / 500 * abs(scores[chosen].mean() - right[chosen].mean())
    assert found.error == pytest.approx(naive)
    assert sum(b.images for b in found.bins) == 500
    assert all(b.low <= b.accuracy <= b.high for b in found.bins)
    sure = reliability(predictions([1.0, 1.0], [True, True]))
    assert sure
    assert (sure.error, sure.bins[0].images) == (0.0, 2)  # a confidence of one lies in the last bin


def test_scores_that_are_no_probabilities_have_no_reliability() -> None:
    assert reliability(predictions([0.5, None], [True, False])) is None
    assert reliability(predictions([0.5, -3.0], [True, False])) is None
    assert reliability(Predictions("knn", ("x",), ("x",))) is None


def test_few_images_make_no_dot() -> None:
    found = reliability(predictions([0.05] * 9 + [0.95] * 10, [True] * 19))
    assert found
    chart = reliability_chart(found, "<label>")
    assert chart.count("<circle") == 1
    assert "10 images, confidence 0.950, accuracy 1.000" in chart
    assert "<label>" not in chart


def test_the_surest_mistake_comes_first_under_the_name_of_its_file(build: Build) -> None:
    build()
    page = rendered().decode()
    section = page[page.index('<section id="mistakes"') :].split("</section>")[0]
    assert "linear probe, seed 0: 18 of 30 answers are wrong" in section  # random
    assert "on average too sure" in section or "on average not sure enough" in section
    assert re.search(r'<bdi class="file" title="digits/\d+\.png|<bdi class="file" title="\d+\.png', section)
    assert section.count("<li>") == 12 + 4 + 3  # at most a dozen a run
    assert isinstance(show(None, (one_seed("a", 0.5),), None, None), Absent)  # type: ignore[arg-type]


def test_mistakes_are_in_order_of_confidence(build: Build) -> None:
    from stages.report.artifacts import gather
    from stages.report.params import ReportParams

    build()
    artifacts = gather(ReportParams())
    run = artifacts.runs[0]
    known = run.first.predictions
    assert known
    scores = tuple(i / len(known.keys) for i in range(len(known.keys)))
    first = dataclasses.replace(run.first, predictions=known._replace(scores=scores))
    shown = show(artifacts.images, (dataclasses.replace(run, seeds=(first,)),), artifacts.album, None)
    confidences = [float(mistake.confidence) for mistake in shown["answered"][0].mistakes]
    assert confidences == sorted(confidences, reverse=True)
    wrong = [s for s, t, p in zip(scores, known.labels, known.predicted, strict=True) if t != p]
    assert confidences[0] == pytest.approx(max(wrong), abs=1e-3)
