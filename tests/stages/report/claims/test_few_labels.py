"""Figures over the share of labels: what is drawn, what is tested, and what the first sentences say of it."""

from __future__ import annotations

import pytest
from scipy import stats

from stages.report.claims.few_labels import gaps, over_labels, shares_of
from stages.report.claims.headline import headline
from stages.report.readers.comparison import Comparison, Verdict
from stages.report.readers.runs import Figure, Run, SeedRun
from stages.report.section_registry import Absent, sections
from stages.report.sections.labels import show

# run -> method, and the accuracies of three seeds with 0.5, 10 and 100 % of the labels
MEASURED = {
    "floor": ("random", (0.30, 0.32, 0.31), (0.50, 0.53, 0.51), (0.80, 0.82, 0.81)),
    "ceiling": ("supervised", (0.80, 0.82, 0.81), (0.85, 0.86, 0.87), (0.91, 0.90, 0.92)),
    "a": ("simclr", (0.60, 0.63, 0.61), (0.70, 0.74, 0.71), (0.82, 0.80, 0.83)),
    "b": ("byol", (0.61, 0.62, 0.62), (0.71, 0.73, 0.71), (0.83, 0.80, 0.82)),
}
METRICS = ("label_fraction.top1_0_5_percent", "label_fraction.top1_10_percent", "linear.top1")
COMPARISON = Comparison("linear.top1", "methods", ("paired t",), 3, (), {}, (), ())


def runs_of(seeds: int = 3, measured=MEASURED, **config) -> tuple[Run, ...]:
    found = []
    for name, (method, *figures) in measured.items():
        labels = "truth" if method == "supervised" else "none"
        steps = 0 if method == "random" else 9
        own = {"method": method, "labels": labels, "steps": steps, **(config if method == "simclr" else {})}
        figures_of = [
            {m: Figure(f[s], f[s] - 0.1, f[s] + 0.1, 100) for m, f in zip(METRICS, figures, strict=True)}
            for s in range(seeds)
        ]
        found.append(Run(name, tuple(SeedRun(name, s, own, {}, figures_of[s], {}, (), {}, None) for s in range(seeds))))
    return tuple(found)


def test_shares_are_read_off_the_names_and_all_labels_are_the_last() -> None:
    assert shares_of(runs_of()) == {0.5: METRICS[0], 10.0: METRICS[1], 100.0: METRICS[2]}
    assert shares_of(()) == {}


def test_each_share_is_tested_against_each_reference_in_one_family() -> None:
    found = {(g.run, g.reference, g.percent): g for g in gaps(runs_of(), 0.95)}
    assert len(found) == 2 * 2 * 3
    p = {
        (run, reference, k): stats.ttest_rel(MEASURED[run][k + 1], MEASURED[reference][k + 1]).pvalue
        for run in ("a", "b")
        for reference in ("floor", "ceiling")
        for k in range(3)
    }
    smallest = min(p, key=p.__getitem__)
    adjusted = found[smallest[0], smallest[1], (0.5, 10.0, 100.0)[smallest[2]]]
    assert adjusted.p == pytest.approx(12 * p[smallest])
    assert found["a", "floor", 0.5].difference == pytest.approx(0.30333, abs=1e-4)
    assert not found["a", "floor", 100.0].differs


def test_the_sentence_groups_runs_of_which_the_same_holds() -> None:
    words = over_labels(runs_of(), 0.95)
    assert words.startswith(
        "By the linear probe over shares of the labels, a and b are above the untrained network (floor) at 0.5 % and "
        "10 %, and no difference was shown at 100 %; "
    )
    assert "a and b are below training on the true labels (ceiling) at 0.5 %, 10 % and 100 %. " in words
    assert "at unequal budgets" not in words
    apart = over_labels(runs_of(epochs=3), 0.95)  # no other run states its epochs
    assert apart == words


def test_unequal_budgets_are_named() -> None:
    measured = {name: MEASURED[name] for name in ("ceiling", "a")}
    assert "at unequal budgets" in over_labels(runs_of(measured=measured, image_share=0.1), 0.95)


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_show_figures_and_claim_nothing(seeds: int) -> None:
    runs = runs_of(seeds)
    assert gaps(runs, 0.95) == ()
    assert over_labels(runs, 0.95) == ""
    shown = show(runs, COMPARISON)
    assert shown["gaps"] == []
    assert shown["percents"] == ["0.5 %", "10 %", "100 %"]
    assert shown["rows"][0].cells[0] == (("0.300", "[0.200, 0.400]") if seeds == 1 else ("0.310", ""))


def test_the_section_draws_each_run_and_says_where_nothing_was_measured() -> None:
    shown = show(runs_of(1), None)
    assert shown["drawn"] == ["floor", "ceiling", "a", "b"]
    assert "a at 10 %: 0.700 [0.600, 0.800]" in shown["chart"]
    assert shown["chart"].count("<circle") == 12
    assert isinstance(show((), None), Absent)
    assert "labels" in [section.name for section in sections()]


def test_the_first_sentences_answer_over_the_share_of_labels() -> None:
    verdict = Verdict("a", "floor", 0.1, None, None, 0.01, True, "")
    found = Comparison("linear.top1", "methods", ("paired t",), 3, (verdict,), {}, (), ())
    said = headline(found, runs_of())
    assert said.sentence == ("Pretraining helped: on Linear top-1 accuracy, a is above the untrained network (floor).")
    assert said.details[-1].startswith("By the linear probe over shares of the labels, ")
