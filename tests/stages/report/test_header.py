"""The head of the page: outcome sentences that claim no more than the verdicts, and how those were reached."""

from __future__ import annotations

from stages.report.header import outcome
from stages.report.readers.comparison import Comparison, Verdict
from stages.report.readers.runs import Run
from stages.report.sections.runs import how_tested
from stages.report.worth import worth
from tests.stages.report.conftest import one_seed, seed_run


def verdict(a: str, b: str, gap: float, differs: bool) -> Verdict:
    return Verdict(a, b, gap, None, None, None, differs, "")


def comparison(*verdicts: Verdict, claim: str = "models", seeds: int = 1) -> Comparison:
    return Comparison("knn.top1", claim, ("exact McNemar",), seeds, verdicts, {}, (), ())


RUNS = (one_seed("random", 0.5), one_seed("a", 0.9), one_seed("b", 0.51), one_seed("c", 0.3))


def test_outcome_sorts_runs_into_above_below_and_unclear() -> None:
    found = comparison(
        verdict("a", "random", 0.4, True),
        verdict("b", "random", 0.01, False),
        verdict("random", "c", 0.2, True),
        verdict("b", "a", -0.39, True),
    )
    words = outcome(found, RUNS)
    assert words.startswith("a has the highest kNN top-1 accuracy, 0.900 [0.850, 0.950]. ")
    assert "a is above the untrained network (random) beyond chance; " in words
    assert "c is below the untrained network (random); " in words
    assert "b cannot be told apart from the untrained network (random). " in words
    assert "No difference was shown" not in words


def test_outcome_without_verdicts_makes_no_claim() -> None:
    assert outcome(None, RUNS).endswith("of 4 runs. No differences were tested.")
    two = comparison(verdict("a", "random", 0.4, False), claim="none", seeds=2)
    assert outcome(two, RUNS).endswith("2 seeds are too few for a statement about methods: three or more are needed.")
    assert how_tested(two) == how_tested(None) == ""
    assert "There is no accuracy without labels" in outcome(None, (one_seed("a", None),))
    assert "Nothing has been trained" in outcome(None, ())


def test_outcome_of_methods_needs_the_claim() -> None:
    several = comparison(verdict("a", "random", 0.4, True), claim="methods", seeds=3)
    assert "With 3 seeds this is a statement about the methods" in outcome(several, RUNS)
    assert "about methods on this data set" in how_tested(several)
    assert "no statement about methods" in how_tested(comparison(verdict("a", "random", 0.4, True)))


def of(name: str, method: str, labels: str = "none", steps: int = 9) -> Run:
    return Run(name, (seed_run(name, 0.5, method=method, labels=labels, steps=steps),))


TRAINED = (
    of("floor", "random", steps=0),
    of("ceiling", "supervised", "truth"),
    of("hub", "published", steps=0),
    of("a", "simclr"),
    of("b", "byol"),
    of("guessed", "supervised", "mined"),  # classifies clusters: pretrained, and no reference
)


def test_the_first_sentence_answers_against_each_reference_by_the_verdicts() -> None:
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
    assert outcome(found, TRAINED).startswith(
        "Was pretraining worth it? a and b are above the untrained network (floor) beyond chance; no difference was "
        "shown between guessed and the untrained network (floor); a is below the published weights (hub) beyond "
        "chance; no difference was shown between b and the published weights (hub); a is below training on the true "
        "labels (ceiling) beyond chance. "
    )


def test_the_answer_says_where_budgets_differ_and_is_silent_where_nothing_was_tested() -> None:
    unequal = Verdict("a", "ceiling", 0.0, None, None, 0.9, False, "", ("epochs (3 and 30)",))
    words = worth(comparison(unequal), TRAINED)
    assert words == (
        "Was pretraining worth it? No difference was shown between a and training on the true labels (ceiling), at "
        "unequal budgets. "
    )
    assert worth(comparison(unequal, claim="none", seeds=2), TRAINED) == worth(None, TRAINED) == ""
    assert worth(comparison(unequal), TRAINED[3:]) == ""
