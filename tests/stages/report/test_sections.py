"""What the sections say: outcome sentences, sample choice, curves, parameters, provenance."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.report.comparison import Comparison, Verdict, how_tested, outcome
from stages.report.gather import gather
from stages.report.gather_data import Images, sample_keys
from stages.report.gather_runs import Figure, LabelSet, Run, SeedRun, numbered, read_history
from stages.report.page import render
from stages.report.provenance_script import write_provenance_script
from stages.report.sections_data import cluster_sections, saw_labels
from stages.report.sections_pictures import MOST_QUERIES, queries
from stages.report.sections_runs import MOST_POINTS, curves, flattened, guided_batches, metric_names, table
from stages.report.thumbnails import Album


def seed_run(name: str, value: float | None, seed: int = 0, **config: object) -> SeedRun:
    figures = {} if value is None else {"knn.top1": Figure(value, value - 0.05, value + 0.05, 100)}
    return SeedRun(name, seed, {"method": name, **config}, {}, figures, {}, (), {}, None)


def run(name: str, value: float | None) -> Run:
    return Run(name, (seed_run(name, value),))


def verdict(a: str, b: str, gap: float, differs: bool) -> Verdict:
    return Verdict(a, b, gap, differs, "", "", "", "")


def comparison(*verdicts: Verdict, claim: str = "models", seeds: int = 1) -> Comparison:
    return Comparison("knn.top1", claim, ("exact McNemar",), seeds, verdicts, {}, (), ())


RUNS = (run("random", 0.5), run("a", 0.9), run("b", 0.51), run("c", 0.3))


def test_outcome_sorts_runs_into_above_below_and_unclear() -> None:
    found = comparison(
        verdict("a", "random", 0.4, True),
        verdict("b", "random", 0.01, False),
        verdict("random", "c", 0.2, True),
        verdict("b", "a", -0.39, True),
    )
    words = outcome(found, RUNS, "knn.top1")
    assert words.startswith("a has the highest kNN top-1 accuracy, 0.900 [0.850, 0.950]. ")
    assert "a is above the untrained network (random) beyond chance; " in words
    assert "c is below the untrained network (random); " in words
    assert "b cannot be told from the untrained network (random). " in words
    assert "No difference was shown" not in words


def test_outcome_without_verdicts_makes_no_claim() -> None:
    assert outcome(None, RUNS, "knn.top1").endswith("of 4 runs. No differences were tested.")
    two = comparison(verdict("a", "random", 0.4, False), claim="none", seeds=2)
    assert outcome(two, RUNS, "knn.top1").endswith(
        "2 seeds are too few to tell methods from chance: three or more are needed."
    )
    assert how_tested(two) == how_tested(None) == ""
    assert "No accuracy is given" in outcome(None, (run("a", None),), "knn.top1")
    assert "Nothing has been trained" in outcome(None, (), "knn.top1")


def test_label_sets_and_runs_that_true_labels_reached_are_marked_however_they_came() -> None:
    """All labels, some labels, and labels mined on what a run learned from them, over any number of rounds."""
    qualities = {
        "truth": {"uses_truth": True, "on": "features/pixels", "accuracy": 1.0},
        "semi": {"uses_truth": True, "on": "features/pixels", "accuracy": 0.5, "accuracy_new": 0.25, "given": 1200},
        "plain": {"uses_truth": False, "on": "features/pixels", "accuracy": 0.5},
        "later": {"uses_truth": False, "on": "embed/from_semi"},
        "latest": {"uses_truth": False, "on": "embed/from_later"},
        "other": {"uses_truth": False, "on": "embed/from_plain"},
    }
    sets = [LabelSet(name, 0, quality, {"key": 0}, None) for name, quality in qualities.items()]
    runs = tuple(Run(f"from_{name}", (seed_run(f"from_{name}", 0.5, labels=name),)) for name in qualities)
    seen = saw_labels(sets, runs)
    assert seen == {"truth", "semi", "later", "latest"}
    marked = {row.name for row in table(runs, ("knn.top1",), {}, seen) if "has seen true labels" in row.labels}
    assert marked == {"from_truth", "from_semi", "from_later", "from_latest"}
    told = {section.name: section for section in cluster_sections(sets, runs)}
    assert told["truth"].quality == ()
    assert "the true labels of 1,200 images; figures that compare with classes are of the others" in told["semi"].saw
    assert ("Accuracy, new", "0.250") in [row[:2] for row in told["semi"].quality]
    assert "a run learned that had seen true labels" in told["latest"].saw
    assert told["plain"].saw == told["other"].saw == ""


def test_many_pairs_are_listed_whole_only_on_demand(build: Callable[..., Path]) -> None:
    build(runs={f"run_{i}": ("random" if i == 0 else "simclr", "none") for i in range(7)})
    page = render(gather(), 1).decode()
    assert "A difference was shown for 6 of 21 pairs." in page
    assert (
        page.index("run_6 is above run_0")
        < page.index("<summary>All pairs</summary>")
        < page.index("no difference shown")
    )


def test_outcome_of_methods_needs_the_claim() -> None:
    several = comparison(verdict("a", "random", 0.4, True), claim="methods", seeds=3)
    assert "With 3 seeds this is a statement about the methods" in outcome(several, RUNS, "knn.top1")
    assert "about methods on this data set" in how_tested(several)
    assert "no statement about methods" in how_tested(comparison(verdict("a", "random", 0.4, True)))


def images(labels: dict[str, str], keys: list[str]) -> Images:
    classes = tuple(sorted(set(labels.values())))
    return Images(
        {"train": len(keys)},
        classes,
        dict.fromkeys(classes, (0, 0, 0)),
        labels,
        {"train": tuple(keys)},
        (8, 8, 8, 8),
        0,
    )


def test_samples_take_classes_in_turns() -> None:
    keys = [f"{i:02}" for i in range(20)]
    labels = {key: "rare" if key == "19" else "common" for key in keys[1:]}  # 00 has no label
    found = sample_keys(images(labels, keys), 5)
    assert found == ["01", "02", "03", "19", "00"]
    assert sorted(sample_keys(images(labels, keys), 100)) == keys
    assert sample_keys(images({}, keys), 3) == ["00", "01", "02"]
    assert sample_keys(Images({}, (), {}, {}, {}, (0, 0, 0, 0), 0), 3) == []


def test_best_marks_accuracies_only() -> None:
    rows = table(RUNS, ["knn.top1"], {})
    assert [row.cells[0].best for row in rows if row.cells[0]] == [False, True, False, False]
    odd = Run("x", (SeedRun("x", 0, {}, {}, {"spectrum.rankme": Figure(3.0, None, None, None)}, {}, (), {}, None),))
    cell = table((odd,), ["spectrum.rankme"], {})[0].cells[0]
    assert cell
    assert not cell.best
    assert cell.interval == ""
    assert table((odd,), ["knn.top1"], {})[0].cells == (None,)
    assert metric_names((*RUNS, odd), "knn.top1") == ("knn.top1", "spectrum.rankme")


def test_several_seeds_use_the_interval_of_their_mean() -> None:
    several = Run("a", (seed_run("a", 0.8, 0), seed_run("a", 0.9, 1)))
    cell = table((several,), ["knn.top1"], {("a", "knn.top1"): (0.8, 0.9)})[0].cells[0]
    assert cell
    assert (cell.value, cell.interval) == ("0.850", "[0.800, 0.900]")
    without = table((several,), ["knn.top1"], {})[0].cells[0]
    assert without
    assert without.interval == ""


def test_long_histories_are_thinned_and_keep_their_ends() -> None:
    epochs = tuple(float(i) for i in range(10_000))
    long = SeedRun(
        "a", 0, {}, {"epoch": epochs, "step": epochs, "loss": epochs, "empty": (None,) * 10_000}, {}, {}, (), {}, None
    )
    (found,) = curves((Run("a", (long,)),))
    assert len(found.charts) == 1  # no chart of epochs, steps, or nothing
    assert found.charts[0].count("L") - str(found.charts[0]).count("Loss") <= MOST_POINTS + 2
    assert "ends at 9,999" in found.charts[0]
    assert curves((run("a", 0.5),)) == ()


def test_history_reads_what_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,note\n1,2.5,x\n2,inf,\n3\n", encoding="utf-8")
    assert read_history(path) == {"epoch": (1, 2, 3), "loss": (2.5, None, None), "note": (None, None, None)}
    path.write_text("", encoding="utf-8")
    assert read_history(path) == {}


def test_guided_batches_say_whether_zero_was_possible() -> None:
    tight = seed_run(
        "a", None, sampling={"clusters": 3, "largest": 9, "batches": 4, "conflicting_pairs": 7, "share_affected": 0.5}
    )
    loose = seed_run(
        "b", None, sampling={"clusters": 3, "largest": 4, "batches": 4, "conflicting_pairs": 0, "share_affected": 0.0}
    )
    first, second = guided_batches((Run("a", (tight,)), Run("b", (loose,)), run("c", 0.1)))
    assert first.possible == "no: 9 > 4"
    assert first.affected == "50.0 %"
    assert second.possible == "yes"
    assert second.conflicting == "0"


def test_flattened_parameters() -> None:
    assert flattened({"a": {"b": True, "c": None}, "d": [1, 2], "e": {}}) == [
        ("a.b", "true"),
        ("a.c", "null"),
        ("d", "[1, 2]"),
        ("e", "{}"),
    ]


def test_seeds_sort_as_numbers(tmp_path: Path) -> None:
    for name in ("a/10", "a/9", "a/x", "b/0", ".partial-c/٣"):
        (tmp_path / name).mkdir(parents=True)
    assert [(name, seed) for name, seed, _ in numbered(tmp_path)] == [("a", 9), ("a", 10), ("b", 0)]


class Everything(Album):
    """An album in which every key has the same grey pixel."""

    def __init__(self) -> None:
        super().__init__(None)

    def __contains__(self, key: str) -> bool:
        return True

    def pixels(self, key: str) -> np.ndarray:
        return np.full((1, 1, 3), 127, np.uint8)


def test_queries_come_from_different_classes_first() -> None:
    labels = {f"q{i:02}": f"class {i // 10}" for i in range(40)} | {"n": "class 0"}
    near = {key: (("n", 0.5),) for key in labels if key != "n"}
    one = Run("a", (SeedRun("a", 0, {}, {}, {}, {}, (), near, None),))
    found = queries((one,), labels, Everything())
    assert len(found) == MOST_QUERIES
    assert [q.label for q in found] == ["class 0", "class 1", "class 2", "class 3", "class 0", "class 1"]
    assert [q.rows[0][1][0].same for q in found] == [True, False, False, False, True, False]
    assert queries((run("a", 0.5),), labels, Everything()) == ()
    unlabelled = queries((one,), {}, Everything())
    assert {q.rows[0][1][0].same for q in unlabelled} == {None}


def test_provenance_gathers_what_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".reprise/provenance/pretrain/simclr"
    folder.mkdir(parents=True)
    facts = {"seconds": 1.5, "machine": "</script>\u2028", "packages": {"torch": "2.13"}, "images_per_second": 1e999}
    (folder / "0.json").write_text(json.dumps(facts), encoding="utf-8")
    (folder / "1.json").write_text("{", encoding="utf-8")
    (folder / "2.json").write_text("[1]", encoding="utf-8")
    write_provenance_script(tmp_path / "provenance.js")
    text = (tmp_path / "provenance.js").read_text(encoding="utf-8")
    assert "</script" not in text
    (record,) = json.loads(text.removeprefix("window.REPRISE_PROVENANCE = ").removesuffix(";\n"))
    assert record["record"] == "pretrain/simclr/0"
    assert record["seconds"] == 1.5
    assert record["images_per_second"] is None
