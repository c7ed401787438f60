"""`softcon`: agreements of labels and the loss on pairs restated with loops in float64, and missing labels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from reprise.artifacts.facts.table import objects
from reprise.config.errors import TrainingError
from reprise.objectives.info_nce import info_nce
from reprise.objectives.soft_relation import label_agreement, soft_relation
from stages.pretrain.method import Batch, Method
from tests.stages.pretrain.methods.conftest import TinyBackbone, build, random_batch

NAN = math.nan
# Two equal ones, one that overlaps them, one apart, an empty one, one of which a label is unknown.
LABELS = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0], [1, NAN, 0, 0]]
TAKES_PART = [True, True, True, True, False, False]


def things(row: list[float]) -> set[int]:
    return {i for i, value in enumerate(row) if value == 1}


def naive_agreement(i: int, j: int, target: str) -> float:
    if not (TAKES_PART[i] and TAKES_PART[j]):
        return 0.0
    a, b = things(LABELS[i]), things(LABELS[j])
    return len(a & b) / (len(a | b) if target == "jaccard" else math.sqrt(len(a) * len(b)))


@pytest.mark.parametrize("target", ["cosine", "jaccard"])
def test_agreement_is_its_formula(target: Any) -> None:
    found, known = label_agreement(torch.tensor(LABELS, dtype=torch.float64), target)
    assert known.tolist() == TAKES_PART
    want = [[naive_agreement(i, j, target) for j in range(6)] for i in range(6)]
    np.testing.assert_allclose(found.numpy(), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("target", ["cosine", "jaccard"])
def test_one_label_each_gives_the_indicator_of_the_same_class(target: Any) -> None:
    classes = torch.tensor([0, 2, 2, 1, 0, 2])
    found, known = label_agreement(torch.nn.functional.one_hot(classes, 5).double(), target)
    assert known.all()
    assert torch.equal(found, (classes[:, None] == classes).double())
    everything, _ = label_agreement(torch.ones(4, 3), target)
    assert torch.equal(everything, torch.ones(4, 4))


@pytest.mark.parametrize("target", ["cosine", "jaccard"])
def test_many_labels_are_counted_exactly_in_bf16(target: Any) -> None:
    """bf16 has no 301: counted in it, two images agree by other than 1 with themselves."""
    labels = torch.zeros(3, 400)
    labels[0, :301], labels[1, 99:], labels[2, :303] = 1, 1, 1
    want, known = label_agreement(labels, target)
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found, _ = label_agreement(labels if autocast else labels.bfloat16(), target)
        assert torch.equal(found, want)
    assert known.all()
    assert torch.equal(want.diagonal(), torch.ones(3))


@pytest.mark.parametrize("target", ["cosine", "jaccard"])
def test_the_loss_on_pairs_is_its_formula(rng: torch.Generator, target: Any) -> None:
    q, k = torch.randn(2, 6, 5, generator=rng, dtype=torch.float64).unbind()
    q.requires_grad_()
    total, pairs = 0.0, 0
    for i in range(6):
        for j in range(6):
            if TAKES_PART[i] and TAKES_PART[j]:
                a, b = q[i].tolist(), k[j].tolist()
                length = math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))
                probability = 1 / (1 + math.exp(-(7 * sum(x * y for x, y in zip(a, b, strict=True)) / length - 2)))
                y = naive_agreement(i, j, target)
                total -= y * math.log(probability) + (1 - y) * math.log(1 - probability)
                pairs += 1
    agreement, known = label_agreement(torch.tensor(LABELS, dtype=torch.float64), target)
    loss = soft_relation(q, k, agreement, known, 7.0, -2.0)
    assert float(loss.detach()) == pytest.approx(total / pairs, rel=1e-9)
    assert torch.autograd.gradcheck(lambda x: soft_relation(x, k, agreement, known, 7.0, -2.0), q)


def test_images_without_a_label_take_no_part_and_none_at_all_is_no_loss(rng: torch.Generator) -> None:
    q, k = torch.randn(2, 6, 5, generator=rng, dtype=torch.float64).unbind()
    q.requires_grad_()
    agreement, known = label_agreement(torch.tensor(LABELS, dtype=torch.float64), "cosine")
    (gradient,) = torch.autograd.grad(soft_relation(q, k, agreement, known, 10.0, -5.0), q)
    assert [bool(row.abs().sum() > 0) for row in gradient] == TAKES_PART
    kept = [i for i, takes_part in enumerate(TAKES_PART) if takes_part]
    alone = soft_relation(q[kept], k[kept], agreement[kept][:, kept], known[kept], 10.0, -5.0)
    assert float(alone.detach()) == pytest.approx(
        float(soft_relation(q, k, agreement, known, 10.0, -5.0).detach()), rel=1e-12
    )
    nothing = soft_relation(q, k, agreement, torch.zeros(6, dtype=torch.bool), 10.0, -5.0)
    (gradient,) = torch.autograd.grad(nothing, q)
    assert float(nothing.detach()) == 0
    assert not gradient.any()


def with_facts(values: list[list[float]], **options: Any) -> tuple[Method, Batch]:
    """`softcon` on two facts, and a batch in which images have these values of them."""
    method = build("softcon", facts=["ship", "cloud"], **options)
    columns = torch.tensor(values, dtype=torch.float32)
    return method, replace(random_batch(method), facts={"ship": columns[:, 0], "cloud": columns[:, 1]})


def test_a_step_adds_the_loss_on_pairs_to_that_of_moco_v2() -> None:
    values: list[list[float]] = [[1, 0], [1, 1], [0, 0], [0, 1], [1, NAN], [1, 1], [0, 1], [1, 0]]
    found = {}
    for weight in (0.0, 1.0, 3.0):
        method, batch = with_facts(values, weight=weight)
        method.step(batch)  # fills the queue
        loss, figures = method.step(batch)
        found[weight] = float(loss.detach())
        assert figures["features"].shape == (8, 12)
        assert figures["projections"].shape == (8, 8)
    assert found[3.0] - found[0.0] == pytest.approx(3 * (found[1.0] - found[0.0]), rel=1e-4)
    method, batch = with_facts(values, weight=0.0)
    queries = method.head(method.backbone(batch.views[0]))
    keys = method.taught(batch.views[1])
    method.queue.push(torch.nn.functional.normalize(keys, dim=1))
    expected = info_nce(queries, keys, method.queue.stored(), method.params.temperature)
    assert found[0.0] == pytest.approx(float(expected.detach()), rel=1e-4)


def test_clusters_of_the_label_set_are_the_labels_where_no_facts_are_named() -> None:
    method = build("softcon")
    assert method.needs == ("clusters",)
    batch = replace(random_batch(method, 6), fields={"clusters": torch.tensor([0, 3, -1, 3, 0, 1])})
    agreement, known = label_agreement(method.labels(batch), method.params.target)
    assert known.tolist() == [True, True, False, True, True, True]
    assert agreement[1].tolist() == [0, 1, 0, 1, 0, 0]
    assert agreement[2].tolist() == [0] * 6
    assert not build("softcon", facts=["ship"]).needs
    assert type(method).facts_read(method.Params(facts=["ship", "cloud"])) == ("ship", "cloud")


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="each fact once"):
        build("softcon", facts=["ship", "ship"])
    method = build("softcon", facts=["ship"])
    for values, message in (
        (np.array([0.0, 2.5, NAN]), "the value 2.5"),
        (objects(["a", None]), "words or texts"),
        (np.zeros((3, 2)), "words or texts"),
    ):
        context = replace(method.context, facts={"ship": values})
        with pytest.raises(TrainingError, match=f"does not say whether an image shows something.*{message}"):
            type(method)(TinyBackbone(), method.params, context)
    with pytest.raises(TrainingError, match="nothing says what an image shows"):
        type(method)(TinyBackbone(), method.Params(), replace(method.context, clusters=0))
