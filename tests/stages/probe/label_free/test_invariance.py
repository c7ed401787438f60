"""The probes that read changed images: invariance and relations; and label alignment, their sibling with labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reprise.artifacts.embeddings import read_embeddings, write_embeddings
from reprise.config.errors import EmbeddingError
from reprise.measures import invariance
from stages.probe.data import AUGMENTED
from stages.probe.probes.label_free.invariance import Invariance
from stages.probe.probes.label_free.relations import Relations
from stages.probe.probes.quality.label_alignment import LabelAlignment
from stages.probe.running.suite import run_suite


def with_changes(data, count: int = 40, **moves: float):
    """Write changed copies of `count` test images beside the embeddings: features plus noise of the given size."""
    rng = np.random.default_rng(7)
    keys, splits, x = read_embeddings("data/embeddings.parquet", "backbone", "test")
    keys, splits, x = keys[:count], splits[:count], x[:count]
    taps = {"original": x} | {name: x + size * rng.normal(size=x.shape) for name, size in moves.items()}
    write_embeddings(Path("data") / AUGMENTED, keys, splits, taps)
    return data


def run(kind, data, **params):
    return kind(kind.Params(**params)).run(data)


def test_invariance_orders_changes_by_how_far_they_move(make) -> None:
    result = run(Invariance, with_changes(make(), flip=0.1, crop=0.5, grey=0.0, all=1.0))
    value = {name: figure.value for name, figure in result.metrics.items()}
    assert 0 < value["flip"] < value["crop"] < value["all"]
    assert all(f.low < f.value < f.high for f in result.metrics.values())
    assert "grey" not in value
    assert result.protocol["left out"] == "grey: changes no feature of any image"
    _, features = with_changes(make(), flip=0.1, crop=0.5, grey=0.0, all=1.0).augmented()
    assert value["alignment"] == pytest.approx(invariance.alignment(features["original"], features["all"]).mean())


def test_invariance_draws_whole_groups(make) -> None:
    plain = run(Invariance, with_changes(make(), all=1.0)).metrics["all"]
    grouped = run(Invariance, with_changes(make(groups=lambda i: f"scene {i // 10}"), all=1.0))
    assert grouped.metrics["all"].value == plain.value
    assert (grouped.metrics["all"].low, grouped.metrics["all"].high) != (plain.low, plain.high)
    assert grouped.protocol["interval"] == "bootstrap over groups"


def test_relations_fall_from_one_to_zero_as_changes_drown_the_image(make) -> None:
    scores = [
        run(Relations, with_changes(make(), a=size, b=size, c=size), directions=4).metrics["views"].value
        for size in (0.01, 1.0, 50.0)
    ]
    assert scores[0] == pytest.approx(1.0, abs=0.01)
    assert scores[0] > scores[1] > scores[2]
    assert abs(scores[2]) < 0.15


@pytest.mark.parametrize("kind", [Invariance, Relations])
def test_collapsed_features_are_not_measured(make, kind) -> None:
    data = make()
    keys, splits, x = read_embeddings("data/embeddings.parquet", "backbone", "test")
    write_embeddings(Path("data") / AUGMENTED, keys, splits, {"original": x * 0, "all": x * 0})
    assert run(kind, data).protocol["note"].startswith("not run: ")


def test_groups_of_probes_say_when_nothing_was_embedded_and_rerun_when_it_was(make) -> None:
    probes = {"invariance": Invariance(Invariance.Params()), "relations": Relations(Relations.Params())}
    data = make()
    assert run_suite(probes, data, "test").computed == []
    with_changes(data, all=1.0)
    assert run_suite(probes, data, "test").computed == ["invariance", "relations"]
    assert run_suite(probes, data, "test").computed == []
    with_changes(data, all=2.0)
    assert run_suite(probes, data, "test").computed == ["invariance", "relations"]


def test_changed_images_that_the_manifest_does_not_have(make) -> None:
    data = make()
    write_embeddings(Path("data") / AUGMENTED, np.array(["zzz"]), np.array(["test"]), {"original": np.ones((1, 2))})
    with pytest.raises(EmbeddingError, match="not those of the manifest"):
        data.augmented()


def test_label_alignment_finds_classes_in_the_strongest_directions_only(make) -> None:
    assert run(LabelAlignment, make(spread=9.0)).metrics["classes"].value > 0.9
    assert abs(run(LabelAlignment, make(spread=0.0, test=400)).metrics["classes"].value) < 0.1
    single = run(LabelAlignment, make(labels=lambda s, c: "one"))
    assert single.metrics == {}
    assert "two groups" in single.protocol["note"]
