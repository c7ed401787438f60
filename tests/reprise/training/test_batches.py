"""Micro-batches: their gradients are those of the mean of their losses, and their figures are those of all images."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from reprise.training.batches import backward, copied, tensors_in


@dataclass(frozen=True)
class Pairs:
    views: list[Tensor]
    fields: dict[str, Tensor]


def pairs(images: int) -> Pairs:
    rng = torch.Generator().manual_seed(0)
    views = [torch.randn(images, 4, generator=rng, dtype=torch.float64) for _ in range(2)]
    return Pairs(views, {"weight": torch.rand(images, generator=rng, dtype=torch.float64)})


def gradient(step, batch: Pairs, micro_batches: int):
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    loss, figures = backward(lambda part: step(model, part), batch, micro_batches)
    assert not loss.requires_grad
    return loss, figures, [p.grad for p in model.parameters()]


def mean_over_images(model: nn.Module, batch: Pairs):
    rows = (model(batch.views[0]) - model(batch.views[1])).square().sum(dim=1) * batch.fields["weight"]
    return rows.mean(), {"features": model(batch.views[0]), "mean": rows.mean()}


def over_pairs(model: nn.Module, batch: Pairs):
    z = model(batch.views[0])
    return (z @ model(batch.views[1]).T).logsumexp(dim=1).mean(), {"features": z}


@pytest.mark.parametrize("count", [2, 3, 5, 11])
def test_a_mean_over_images_is_the_same_in_micro_batches(count: int) -> None:
    loss, figures, gradients = gradient(mean_over_images, pairs(11), 1)
    other, joined, parts = gradient(mean_over_images, pairs(11), count)
    torch.testing.assert_close(other, loss)
    torch.testing.assert_close(joined, figures)  # rows of all images in their order, and means of scalars
    torch.testing.assert_close(parts, gradients)


def test_a_loss_that_compares_images_compares_those_of_a_micro_batch() -> None:
    batch = pairs(7)
    halves = [Pairs([v[rows] for v in batch.views], {}) for rows in (slice(3), slice(3, 7))]
    (first, _, one), (second, _, two) = (gradient(over_pairs, half, 1) for half in halves)
    loss, _, gradients = gradient(over_pairs, batch, 2)
    torch.testing.assert_close(loss, (3 * first + 4 * second) / 7)
    torch.testing.assert_close(gradients, [(3 * a + 4 * b) / 7 for a, b in zip(one, two, strict=True)])
    assert not torch.allclose(loss, gradient(over_pairs, batch, 1)[0], rtol=0.01)


def test_copies_have_the_form_of_the_batch_and_memory_of_their_own() -> None:
    batch = pairs(3)
    copy = copied(batch)
    assert [torch.equal(a, b) for a, b in zip(tensors_in(batch), tensors_in(copy), strict=True)] == [True] * 3
    copy.views[0].zero_()
    assert bool(batch.views[0].any())
