"""Two processes with a part of the batch each have the losses and gradients of one process with all of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from reprise.objectives.centring import Centre
from reprise.objectives.coding_rate import coding_rate
from reprise.objectives.info_nce import in_batch_info_nce
from reprise.objectives.nt_xent import nt_xent
from reprise.objectives.sinkhorn import sinkhorn
from reprise.runtime.world import ALONE, World
from tests.two_ranks import TwoRanks

ROWS, WIDTH = 8, 5
SPLITS = {"even": [4, 4], "uneven": [5, 3]}
CLUSTERS = torch.arange(ROWS) % 3 - 1
CONFIDENCES = torch.linspace(0, 1, ROWS)
Loss = Callable[[Tensor, Tensor, slice, World], Tensor]


def squares(x: Tensor, world: World) -> Tensor:
    """The squared length of the sum of all rows: it needs `reduce` with a gradient."""
    return world.reduce(x.sum(dim=0)).square().sum()


def assigned(x: Tensor, target: Tensor, world: World) -> Tensor:
    """Cross entropy with assignments that Sinkhorn makes equal over the whole batch."""
    q = sinkhorn(target, 0.5, 3, world)
    _, total = world.place(x)
    return -(q * x.log_softmax(dim=1)).sum(dim=1).mean() * world.weight(len(x), total)


LOSSES: dict[str, Loss] = {
    "nt_xent": lambda a, b, own, world: nt_xent(a, b, 0.3, world=world),
    "nt_xent, clusters": lambda a, b, own, world: nt_xent(a, b, 0.3, CLUSTERS[own], world=world),
    "nt_xent, confidences": lambda a, b, own, world: nt_xent(a, b, 0.3, CLUSTERS[own], CONFIDENCES[own], world),
    "info_nce": lambda a, b, own, world: in_batch_info_nce(a, b, 0.3, world),
    "coding_rate": lambda a, b, own, world: coding_rate(a, 0.2, world),
    "sinkhorn": lambda a, b, own, world: assigned(a, b, world),
    "mean": lambda a, b, own, world: world.mean(a * b).square().sum(),
    "reduce": lambda a, b, own, world: squares(a * b, world),
}


def evaluated(own: slice, world: World) -> dict[str, Tensor]:
    """Each loss on these rows and its gradient to a weight that all ranks share, in float64."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, ROWS, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(6, WIDTH, generator=generator, dtype=torch.float64)
    found: dict[str, Tensor] = {}
    for name, loss in LOSSES.items():
        w = weight.clone().requires_grad_()
        first, second = images[:, own] @ w
        value = loss(first, second, own, world)
        value.backward()
        assert w.grad is not None
        found[name] = torch.cat([value.detach().reshape(1), w.grad.flatten()])
    centre = Centre(WIDTH, 0.5)
    centre.update(images[0, own] @ weight, world)
    found["centre"] = centre.value
    found["order"] = world.gather(torch.arange(ROWS)[own]).double()
    return found


def evaluated_by_rank(world: World) -> dict[str, dict[str, Tensor]]:
    """Each loss on this rank's rows, for each way of sharing them out."""
    first = {name: sum(split[: world.rank]) for name, split in SPLITS.items()}
    return {
        name: evaluated(slice(first[name], first[name] + split[world.rank]), world) for name, split in SPLITS.items()
    }


def test_two_processes_give_the_losses_and_gradients_of_one(two_ranks: TwoRanks) -> None:
    ranks = two_ranks.call(evaluated_by_rank)
    whole = evaluated(slice(0, ROWS), ALONE)
    assert torch.equal(whole["order"], torch.arange(ROWS).double())
    for split in SPLITS:
        for name, want in whole.items():
            found = torch.stack([rank[split][name] for rank in ranks]).mean(dim=0)  # as gradients are averaged
            where = f"{name}, {split}: "
            # nt_xent computes in float32 whatever it is given
            torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-6, msg=lambda text, where=where: where + text)


def averaged(world: World) -> tuple[list[Tensor], str]:
    """Tensors of two formats and memory layouts, averaged in place; and a value of the first rank."""
    images = torch.arange(16.0).reshape(1, 2, 2, 4).to(memory_format=torch.channels_last)
    tensors = [images * (world.rank + 1), torch.full((2,), float(world.rank), dtype=torch.float64)]
    world.average(tensors)
    return tensors, world.agreed(lambda: f"of rank {world.rank}")


def test_averages_and_agreed_values_are_the_same_everywhere(two_ranks: TwoRanks) -> None:
    for (images, halves), agreed in two_ranks.call(averaged):
        assert torch.equal(images, 1.5 * torch.arange(16.0).reshape(1, 2, 2, 4))
        assert halves.tolist() == [0.5, 0.5]
        assert agreed == "of rank 0"


def test_ranks_share_the_rows_of_a_batch_out() -> None:
    for rows, size in ((7, 2), (9, 4), (4, 4)):
        owns = [World(rank, size).own(rows) for rank in range(size)]
        assert [row for own in owns for row in range(rows)[own]] == list(range(rows))
        counts = World(0, size).counts(rows)
        assert counts == [own.stop - own.start for own in owns]
        assert max(counts) - min(counts) <= 1


def test_one_process_is_the_identity() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    assert ALONE.gather(x) is x
    assert ALONE.reduce(x) is x
    assert torch.equal(ALONE.mean(x), x.mean(dim=0))
    assert ALONE.place(x) == (0, 3)
    assert ALONE.weight(3, 3) == 1


def test_one_process_never_imports_torch_distributed_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch.distributed", None)  # an import would fail
    first, second = torch.randn(2, 4, 3)
    assert nt_xent(first, second, 0.5).isfinite()
