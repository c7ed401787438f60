"""Verdicts on the metrics that `report.metrics` lists: tests on the same images, Holm over all of them together."""

from __future__ import annotations

import numpy as np
import pytest

from reprise.measures.statistics import holm, mcnemar
from stages.report.claims.further_metrics import further_verdicts
from stages.report.readers.answers import Answers, read_answers
from stages.report.readers.runs import Figure, Run, SeedRun, read_runs
from tests.stages.report.conftest import Build, rendered

RIGHT = {"low": 100, "mid": 112, "high": 190}


def runs_of(metrics: dict[str, dict[str, float]], seeds: int = 1) -> tuple[Run, ...]:
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))

    def figures(name: str, seed: int) -> dict[str, Figure]:
        found = {m: values[name] for m, values in metrics.items() if name in values}
        return {m: Figure(value + seed * seed / 1000, None, None, 200) for m, value in found.items()}

    return tuple(
        Run(n, tuple(SeedRun(n, s, {}, {}, figures(n, s), {}, (), {}, None) for s in range(seeds))) for n in names
    )


def answers_of() -> Answers:
    rng = np.random.default_rng(0)
    return Answers({name: {0: rng.permutation(np.arange(200) < right)} for name, right in RIGHT.items()}, None)


def test_one_family_over_all_listed_metrics() -> None:
    shares = {name: right / 200 for name, right in RIGHT.items()}
    answers = {"linear": answers_of(), "knn": answers_of()}
    found = further_verdicts(
        runs_of({"linear.top1": shares, "knn.top1": shares}), ["linear.top1", "knn.top1"], answers, 0.95
    )
    assert [(f.metric, len(f.verdicts), f.tested) for f in found] == [("linear.top1", 3, 6), ("knn.top1", 3, 6)]
    correct = answers["linear"].correct
    p = [mcnemar(correct[v.first][0], correct[v.second][0]) for v in found[0].verdicts]
    assert [v.p for v in found[0].verdicts] == pytest.approx(holm([*p, *p])[:3])
    assert [v.differs for v in found[0].verdicts] == [value < 0.05 for value in holm([*p, *p])[:3]]
    assert {v.differs for v in found[0].verdicts} == {True, False}


def test_a_metric_without_answers_takes_three_seeds() -> None:
    ranks = {"spectrum.rankme": {"a": 5.0, "b": 9.0}}
    (one,) = further_verdicts(runs_of(ranks), ["spectrum.rankme", "no.metric"], {}, 0.95)
    (verdict,) = one.verdicts
    assert (verdict.first, verdict.gap, verdict.p, verdict.differs) == ("b", 4.0, None, False)
    assert verdict.sentence == "not tested"
    assert one.tested == 0
    three = {"spectrum.rankme": {"a": 5.0, "b": 9.0, "c": 9.1}}
    (over_seeds,) = further_verdicts(runs_of(three, seeds=3), list(three), {}, 0.95)
    assert over_seeds.tested == 3
    assert all(v.p is not None for v in over_seeds.verdicts)


def test_answers_are_read_in_one_order_and_a_probe_without_any_is_left_out(build: Build) -> None:
    build()
    runs = read_runs(())
    found = read_answers(runs, ["linear", "spectrum"])
    assert list(found) == ["linear"]
    for run in runs:
        assert found["linear"].correct[run.name][0].mean() == pytest.approx(run.first.figures["linear.top1"].value)


def test_the_page_has_a_table_for_each_listed_metric(build: Build) -> None:
    build()
    assert b"report.metrics" not in rendered()
    page = rendered(metrics=["linear.top1", "knn.top1", "spectrum.rankme", "svm.top1"]).decode()
    assert page.count("<h3>Verdicts on ") == 2  # the main metric has its own
    assert "over the 3 comparisons of all of them together" in page
    assert "Pairs are not tested where no answers to single images are kept" in page
    assert "No two runs have these metrics of <code>report.metrics</code>: svm.top1." in page
