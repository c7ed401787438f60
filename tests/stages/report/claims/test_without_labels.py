"""What is said without labels: neighbours in common, restated naively, and sentences that follow the intervals."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from reprise.artifacts.embeddings import FILE, write_embeddings
from reprise.artifacts.layout import embedding
from reprise.config.errors import EmbeddingError
from stages.report.artifacts import gather
from stages.report.claims.headline import headline
from stages.report.claims.opening import opening
from stages.report.claims.result import result_table
from stages.report.claims.without_labels import Compared, compare_without_labels, sentence_of
from stages.report.params import ReportParams
from stages.report.readers.comparison import Comparison
from stages.report.readers.images.ingest import Images
from stages.report.readers.nearest import Nearest, in_common, nearest_rows, read_nearest
from stages.report.readers.runs import Figure, Run, SeedRun
from stages.report.section_registry import Absent
from stages.report.sections.without_labels import show
from tests.stages.report.conftest import seed_run

N, K = 200, 10


def features(seed: int, of: np.ndarray | None = None, noise: float = 1.0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(N, 16))
    return drawn if of is None else of + noise * drawn


def runs_of(seeds: int) -> tuple[Run, ...]:
    def one(name: str, method: str, seed: int, moved: float, steps: int) -> SeedRun:
        figures = {"invariance.all": Figure(moved, moved - 0.01, moved + 0.01, 50)}
        figures["spectrum.rankme"] = Figure(moved * 10, None, None, 50)
        return dataclasses.replace(seed_run(name, None, seed, method=method, steps=steps), figures=figures)

    rows = (("floor", "random", 0.9, 0), ("a", "simclr", 0.3, 9))
    return tuple(Run(n, tuple(one(n, m, s, moved, steps) for s in range(seeds))) for n, m, moved, steps in rows)


def nearest_of(seeds: int, learned: bool) -> Nearest:
    """A trained network whose seeds find one structure, or one that stays near the untrained network of its seed."""
    structure, rows = features(99), {}
    for seed in range(seeds):
        base = features(seed)
        rows["floor", seed] = nearest_rows(base)
        rows["a", seed] = nearest_rows(features(10 + seed, structure if learned else base, 0.3))
    return Nearest("test", rows, None)


def test_neighbours_in_common_are_counted_as_sets() -> None:
    x, y = features(0), features(1)
    a, b = nearest_rows(x), nearest_rows(y)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    by_hand = [{j for j in np.argsort(-(unit @ unit[i])) if j != i} for i in range(N)]
    order = [[j for j in np.argsort(-(unit @ unit[i])) if j != i][:K] for i in range(N)]
    assert all(set(a[i]) == set(order[i]) <= by_hand[i] for i in range(N))
    naive = [len(set(a[i]) & set(b[i])) / K for i in range(N)]
    assert in_common(a, b) == pytest.approx(naive)
    assert in_common(a, a).tolist() == [1.0] * N


def test_seeds_that_agree_beyond_the_untrained_network_have_learned() -> None:
    (found,) = compare_without_labels(runs_of(3), nearest_of(3, learned=True), {})
    assert found.agreement
    assert found.agreement.value > found.shared.value + 0.2
    assert found.beyond[0] > 0
    text = " ".join(sentence_of([found]))
    assert text.startswith("Training changed which images a finds alike: ")
    assert "The seeds of a agree with each other beyond what they share with the untrained network (floor)" in text
    assert text.endswith("Whether a run is better cannot be said without labels.")


def test_seeds_that_stay_near_their_start_have_not() -> None:
    (found,) = compare_without_labels(runs_of(2), nearest_of(2, learned=False), {})
    assert found.beyond[1] < 0
    assert "do not agree with each other beyond" in " ".join(sentence_of([found]))


def test_one_seed_says_so_and_gives_what_it_can() -> None:
    runs, nearest = runs_of(1), nearest_of(1, learned=True)
    compared = compare_without_labels(runs, nearest, {})
    said = headline(None, runs, compared)
    assert said.sentence.startswith("Training changed which images a finds alike: ")
    text = said.text
    assert "There is one seed, so whether another one would learn the same is not known." in text
    assert (
        "a reacts less to changes of an image than the untrained network (floor): they move its features by 0.300"
        in text
    )
    assert "Effective rank of the features: a 3.0, the untrained network (floor) 9.0." in text
    table = result_table(None, runs, compared)
    assert table
    assert [(row.name, row.verdict) for row in table.rows] == [("a", "one seed")]
    assert table.columns == ("With floor", "Between seeds")


def test_the_section_needs_an_untrained_network_and_embeddings() -> None:
    runs = runs_of(2)
    assert isinstance(show(runs, None, None), Absent)
    assert isinstance(show(runs[1:], nearest_of(2, learned=True), None), Absent)
    shown = show(runs, nearest_of(2, learned=True), None)
    assert shown["by_chance"] == "5.0 %"
    (row,) = shown["rows"]
    assert row.moved == ("0.300", "0.900")
    assert row.rank == ("3.0", "9.0")


def test_a_network_that_training_hardly_changed_is_said_to_be_so() -> None:
    base = nearest_rows(features(0))
    nearest = Nearest("val", {("floor", 0): base, ("a", 0): base}, None)
    (found,) = compare_without_labels(runs_of(1), nearest, {})
    assert isinstance(found, Compared)
    assert sentence_of([found])[0].startswith("Training hardly changed which images a finds alike: 100 % [100, 100] of")


def test_what_changed_comes_before_a_tested_figure_that_is_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preset for photographs tests `invariance.all`, of which more is not better."""
    monkeypatch.chdir(tmp_path)
    tested = Comparison("invariance.all", "none", (), 1, (), {}, (), ("floor", "a"))
    images = Images({"test": N}, (), {}, {}, {}, (8, 8, 8, 8), 0)
    found = dataclasses.replace(
        gather(ReportParams()), images=images, runs=runs_of(1), nearest=nearest_of(1, learned=True), comparison=tested
    )
    begin = opening(found)
    assert begin.headline.sentence.startswith("Training changed which images a finds alike: ")
    table = result_table(begin.scores, found.runs, begin.compared)
    assert table
    assert table.columns == ("With floor", "Between seeds")
    labelled = dataclasses.replace(found, images=dataclasses.replace(images, labels={"key": "class"}))
    assert opening(labelled).scores is tested


def test_neighbours_are_read_from_the_embeddings_of_images_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs, keys = runs_of(1), np.asarray([f"{i:03}" for i in range(N)], dtype=object)
    splits = np.asarray(["test" if i % 2 else "train" for i in range(N)], dtype=object)
    values = {run.name: features(place) for place, run in enumerate(runs)}
    assert read_nearest(runs) is None
    for run in runs:
        write_embeddings(embedding(run.name, 0) / FILE, keys, splits, {"backbone": values[run.name]})
    found = read_nearest(runs)
    assert found
    assert (found.split, found.images) == ("test", N // 2)
    for run in runs:
        assert (found.rows[run.name, 0] == nearest_rows(values[run.name][1::2].astype(np.float32))).all()
    (embedding("a", 0) / FILE).write_bytes(b"PAR1")
    with pytest.raises(EmbeddingError, match="not readable"):
        read_nearest(runs)
