"""The head of the page: sentences that claim no more than the verdicts, and name a surprising one."""

from __future__ import annotations

import pytest

from stages.report.claims.headline import headline
from stages.report.claims.result import result_table
from stages.report.claims.worth import worth
from stages.report.readers.comparison import Comparison, Verdict
from stages.report.readers.runs import Run
from stages.report.sections.runs import how_tested
from tests.stages.report.conftest import one_seed, seed_run


def verdict(a: str, b: str, gap: float, differs: bool) -> Verdict:
    return Verdict(a, b, gap, None, None, 0.001 if differs else 0.5, differs, "")


def comparison(*verdicts: Verdict, claim: str = "models", seeds: int = 1) -> Comparison:
    return Comparison("knn.top1", claim, ("exact McNemar",), seeds, verdicts, {}, (), ())


def of(name: str, method: str, labels: str = "none", steps: int = 9, value: float = 0.5) -> Run:
    return Run(name, (seed_run(name, value, method=method, labels=labels, steps=steps),))


RUNS = (of("random", "random", steps=0), of("a", "x", value=0.9), of("b", "x", value=0.51), of("c", "x", value=0.3))
TRAINED = (
    of("floor", "random", steps=0),
    of("ceiling", "supervised", "truth"),
    of("hub", "published", steps=0),
    of("a", "simclr"),
    of("b", "byol"),
    of("guessed", "supervised", "mined"),  # classifies clusters: pretrained, and no reference
)


def test_the_first_sentence_sorts_runs_into_above_below_and_not_shown() -> None:
    found = comparison(
        verdict("a", "random", 0.4, True),
        verdict("b", "random", 0.01, False),
        verdict("random", "c", 0.2, True),
        verdict("b", "a", -0.39, True),
        verdict("c", "a", -0.6, True),
    )
    said = headline(found, RUNS)
    assert said.sentence == (
        "Pretraining helped in part: on kNN top-1 accuracy, a is above the untrained network (random); c is below the "
        "untrained network (random); no difference was shown between b and the untrained network (random)."
    )
    assert said.details[0] == "a is above every other run: it has a kNN top-1 accuracy, 0.900 [0.850, 0.950]."
    assert said.surprises == ("Surprising: random, the untrained network, is above c (by 20.0 points).",)


@pytest.mark.parametrize(
    ("gap", "differs", "start"),
    [
        (0.4, True, "Pretraining helped: "),
        (-0.4, True, "Pretraining did harm: "),
        (0.4, False, "Pretraining was not shown to help: "),
    ],
)
def test_the_first_words_follow_the_verdict(gap: float, differs: bool, start: str) -> None:
    assert headline(comparison(verdict("a", "random", gap, differs)), RUNS).sentence.startswith(start)


def test_the_highest_figure_is_no_winner_where_no_test_shows_one() -> None:
    found = comparison(verdict("a", "random", 0.4, True), verdict("b", "a", -0.39, False))
    text = headline(found, RUNS).text
    assert "No run was shown to be the best: a has the highest kNN top-1 accuracy, 0.900 [0.850, 0.950], and no" in text
    assert text.index("no difference was shown between it and b") > 0
    assert "above every other run" not in text


def test_runs_with_the_same_highest_figure_are_named_together() -> None:
    runs = (of("random", "random", steps=0), of("a", "x", value=0.9), of("b", "x", value=0.9))
    text = headline(comparison(verdict("a", "random", 0.4, True), verdict("b", "a", 0.0, False)), runs).text
    assert "No run was shown to be the best: a and b have the highest kNN top-1 accuracy, 0.900, and no" in text


def test_a_run_above_another_against_the_expected_order_is_named() -> None:
    runs = (*TRAINED, of("patches", "patch_kmeans", steps=0))
    unequal = Verdict("ceiling", "a", -0.1, None, None, 0.01, True, "", ("epochs (3 and 30)",))
    found = comparison(
        verdict("patches", "a", 0.054, True),
        verdict("b", "patches", -0.07, True),
        verdict("patches", "guessed", 0.2, False),
        unequal,
        verdict("hub", "a", 0.2, True),
        verdict("a", "floor", 0.3, True),
    )
    assert headline(found, runs).surprises == (
        "Surprising: a, which was pretrained, is above ceiling (by 10.0 points), at unequal budgets.",
        "Surprising: patches, which takes no gradient steps, is above b (by 7.0 points) and a (by 5.4 points).",
    )


def test_without_verdicts_nothing_is_claimed_and_nobody_is_named_first() -> None:
    said = headline(None, RUNS)
    assert said.sentence == "No differences between the runs were tested."
    assert said.details == ("Between the runs, kNN top-1 accuracy goes from 0.300 (c) to 0.900 (a).",)
    two = comparison(verdict("a", "random", 0.4, False), claim="none", seeds=2)
    assert headline(two, RUNS).sentence == "2 seeds are too few to tell methods apart: three or more are needed."
    assert how_tested(two) == how_tested(None) == ""
    assert "There is no accuracy without labels" in headline(None, (one_seed("a", None),)).sentence
    assert "Nothing has been trained" in headline(None, ()).sentence
    assert headline(None, RUNS[1:2]).sentence == "a reaches a kNN top-1 accuracy of 0.900 [0.850, 0.950]."


def test_statements_about_methods_need_the_claim() -> None:
    several = comparison(verdict("a", "random", 0.4, True), claim="methods", seeds=3)
    assert "With 3 seeds this is a statement about the methods" in headline(several, RUNS).text
    assert "about methods on this data set" in how_tested(several)
    assert "no statement about methods" in how_tested(comparison(verdict("a", "random", 0.4, True)))


def test_the_other_references_are_answered_by_the_verdicts() -> None:
    found = comparison(
        verdict("a", "floor", 0.4, True),
        verdict("b", "floor", 0.4, True),
        verdict("guessed", "floor", 0.1, False),
        verdict("hub", "a", 0.2, True),
        verdict("b", "hub", 0.01, False),
        verdict("ceiling", "a", 0.3, True),
        verdict("b", "a", 0.01, True),
        verdict("hub", "floor", 0.5, True),
    )
    assert headline(found, TRAINED).sentence == (
        "Pretraining helped in part, but no run was shown to be above the published weights: on kNN top-1 accuracy, "
        "a and b are above the untrained network (floor); no difference was shown between guessed and the untrained "
        "network (floor); a is below the published weights (hub); no difference was shown between b and the published "
        "weights (hub); a is below training on the true labels (ceiling)."
    )
    assert headline(found, TRAINED[1:]).sentence == (  # where the untrained network was not run
        "a is below the published weights (hub); no difference was shown between b and the published weights (hub); "
        "a is below training on the true labels (ceiling)."
    )
    better = comparison(verdict("a", "floor", 0.4, True), verdict("a", "hub", 0.1, True), verdict("b", "hub", 0, False))
    assert headline(better, TRAINED).sentence.startswith("Pretraining helped: on ")
    useless = comparison(verdict("a", "floor", 0.0, False), verdict("a", "hub", -0.1, True))
    assert headline(useless, TRAINED).sentence.startswith("Pretraining was not shown to help: on ")


def test_the_answer_says_where_budgets_differ_and_is_silent_where_nothing_was_tested() -> None:
    unequal = Verdict("a", "ceiling", 0.0, None, None, 0.9, False, "", ("epochs (3 and 30)",))
    words = worth(comparison(unequal), TRAINED, "accuracy")
    assert words == ("No difference was shown between a and training on the true labels (ceiling), at unequal budgets.")
    assert worth(comparison(unequal, claim="none", seeds=2), TRAINED, "accuracy") == ""
    assert worth(comparison(unequal), TRAINED[3:], "accuracy") == ""


def test_the_table_is_in_order_of_value_with_verdicts_on_the_untrained_network() -> None:
    found = comparison(
        verdict("a", "random", 0.4, True), verdict("random", "b", -0.01, False), verdict("c", "random", -0.2, True)
    )
    table = result_table(found, RUNS)
    assert table
    assert [(row.name, row.difference, row.verdict) for row in table.rows] == [
        ("a", "+40.0", "above"),
        ("b", "+1.0", "no difference shown"),
        ("random", "", "–"),
        ("c", "−20.0", "below"),
    ]
    assert table.columns == ("Value", "Against random, points")
    without = result_table(found, RUNS[1:])
    assert without
    assert without.columns[1] == "Against a, points"
    assert [row.verdict for row in without.rows] == ["–", "not tested", "not tested"]
    many = result_table(None, [one_seed(f"run{i}", i / 100) for i in range(12)])
    assert many
    assert (len(many.rows), many.left_out) == (8, 4)
    assert result_table(found, (one_seed("a", None),)) is None
