"""Two processes that keep parts of the weights take the steps of one process, and leave the same files."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reprise.config.errors import TrainingError
from reprise.config.tables import RunRow
from reprise.networks.backbone import build_backbone
from reprise.networks.memory.recompute import blocks_of, recomputed
from reprise.networks.ranks.parted_weights import clip_gradients, gathered, sharded
from reprise.networks.state import arrays_of, load_optimizer
from reprise.runtime.world import ALONE, World, is_part, own_part, parted_as
from reprise.training.optimization.lars import LARS
from reprise.training.params import TrainParams
from stages.pretrain.inputs.images import refuse_passes
from stages.pretrain.method import Batch, Method
from stages.pretrain.methods.contrastive.simclr import SimCLR
from stages.pretrain.ranks.share import Share
from stages.pretrain.ranks.together import shared_step
from tests.stages.pretrain.conftest import TINY
from tests.stages.pretrain.methods.conftest import TinyBackbone, build
from tests.stages.pretrain.ranks.test_methods_on_two_ranks import CHUNKABLE, OPTIONS, SIZE, batch_of, relative, taken
from tests.two_ranks import TwoRanks

SHAPES = {"vit_mini": {"patch_size": 4, "width": 16, "depth": 2, "heads": 2}}
OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, 0.05, momentum=0.9),
    "lars": lambda groups: LARS(groups, 5.0),
    "adamw": lambda groups: torch.optim.AdamW(groups, 0.01, eps=1e-3),
}


def built(name: str, steps: int, backbone: str | None) -> Method:
    method = build(name, images=2 * SIZE, steps=steps, **OPTIONS.get(name, {}))
    if backbone is None:
        return method
    torch.manual_seed(0)
    return type(method)(
        build_backbone(backbone, 3, 8, "small", SHAPES.get(backbone)), method.params, method.context
    ).train()


def apart(
    name: str, steps: int, backbone: str | None, optimizer: str, chunk: int | None, twice: bool, world: World
) -> dict[str, float]:
    """Take steps with parted weights and, from the same state, alone: the largest relative differences.

    The parted network may pass in chunks, and its blocks be computed twice.
    """
    method, alone = (built(name, steps, backbone) for _ in range(2))
    make: Any = OPTIMIZERS[optimizer]
    worst = {"loss": 0.0, "gradients": 0.0, "figures": 0.0, "state": 0.0}
    with sharded(method, method.embedding_networks(), world, "cpu"):
        parted = make([{"params": list(method.parameters())}])
        whole = make([{"params": list(alone.parameters())}])
        assert any(own_part(p).numel() < p.numel() for p in method.backbone.parameters())
        for number in range(steps):
            alone.load_state_dict(gathered(method.state_dict()))
            load_optimizer(whole, arrays_of(gathered(parted.state_dict())))
            with recomputed(blocks_of(method.backbone) if twice else []):
                shared = gathered(taken(method, parted, number, Share(world), chunk))
            expected = taken(alone, whole, number, Share(ALONE))
            for kind, a, b in zip(worst, expected, shared, strict=True):
                worst[kind] = max(worst[kind], relative(a, b))
    assert not any(is_part(p) for p in method.parameters())
    if world.first:
        same = {key: value.float() for key, value in method.state_dict().items()}
        assert relative(shared[3], same) == 0
    return worst


FAST = ("simclr", "supervised", "vicreg")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in CHUNKABLE])
def test_parted_weights_take_the_steps_of_one_process(name: str, two_ranks: TwoRanks) -> None:
    for worst in two_ranks.call(apart, name, 2, None, "sgd", None, False):
        assert max(worst.values()) < 1e-5, worst


@pytest.mark.parametrize(
    ("name", "backbone", "optimizer"),
    [pytest.param("simclr", "resnet_tiny", "lars", marks=pytest.mark.slow), ("byol", "vit_mini", "adamw")],
)
def test_each_block_gathers_its_own_weights(name: str, backbone: str, optimizer: str, two_ranks: TwoRanks) -> None:
    for worst in two_ranks.call(apart, name, 2, backbone, optimizer, None, False):
        assert max(worst.values()) < 1e-5, worst


@pytest.mark.parametrize(
    ("chunk", "twice"),
    [pytest.param(None, True, marks=pytest.mark.slow), pytest.param(3, False, marks=pytest.mark.slow), (3, True)],
)
def test_parts_may_be_computed_twice(chunk: int | None, twice: bool, two_ranks: TwoRanks) -> None:
    for worst in two_ranks.call(apart, "byol", 2, "vit_mini", "sgd", chunk, twice):
        assert max(worst.values()) < 1e-5, worst


def clipped(limit: float, world: World) -> list[dict[str, torch.Tensor]]:
    """Gradients of a backbone in parts and a head, cut to a length, and the same by torch of whole ones."""
    found = []
    for parted in (True, False):
        method = built("simclr", 1, None)
        generator = torch.Generator().manual_seed(0)
        with sharded(method, [method.backbone] if parted else [], world, "cpu"):
            for p in method.parameters():
                p.grad = parted_as(torch.randn(p.shape, generator=generator), p)
            if parted:
                clip_gradients(method.parameters(), limit, world)
            else:
                torch.nn.utils.clip_grad_norm_(method.parameters(), limit)
            found.append(gathered({name: p.grad for name, p in method.named_parameters()}))
    return found


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_gradients_in_parts_are_cut_to_one_length(limit: float, two_ranks: TwoRanks) -> None:
    for parted, whole in two_ranks.call(clipped, limit):
        assert relative(whole, parted) < 1e-6
        assert (torch.stack([x.norm() for x in parted.values()]).norm() < 0.501) == (limit < 1)


class PartsOfABackbone(SimCLR):
    """A method that passes its backbone by, and does not say so."""

    def step(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.backbone.convolution(batch.views[0]).mean(), {}


def passed_by(world: World) -> str:
    method = PartsOfABackbone(TinyBackbone(), SimCLR.Params(), build("simclr").context)
    with sharded(method, method.embedding_networks(), world, "cpu"):
        try:
            shared_step(method, world)(batch_of(method, 0, Share(world)))
        except TrainingError as error:
            return str(error)
    return "nothing is said"


def scalar(world: World) -> str:
    network = torch.nn.Linear(3, 3)
    network.scale = torch.nn.Parameter(torch.tensor(1.0))
    try:
        with sharded(network, [network], world, "cpu"):
            return "nothing is said"
    except TrainingError as error:
        return str(error)


def test_what_cannot_be_parted_is_refused(two_ranks: TwoRanks) -> None:
    for said in two_ranks.call(passed_by):
        assert "without calling the whole backbone" in said
        assert "PartsOfABackbone" in said
    for said in two_ranks.call(scalar):
        assert "the weights of the backbone cannot be parted among processes" in said
        assert "Linear" in said
    shard = TINY.model_copy(update={"shard_weights": True, "processes": 2})
    for name in ("simmim", "msn", "moment"):
        row = RunRow(name="a", method=name, labels="none")
        with pytest.raises(TrainingError, match=rf"'{name}' uses its backbone in parts.*methods\.a"):
            refuse_passes(row, build(name), shard)
    row = RunRow(name="a", method="simclr", labels="none")
    refuse_passes(row, build("simclr"), shard)
    with pytest.raises(TrainingError, match=r"one process has nobody to share.*processes to at least 2"):
        refuse_passes(row, build("simclr"), shard.model_copy(update={"processes": 1}))
    watched = TrainParams.model_validate(shard.model_dump() | {"watches": {"weight_norms": {}}})
    with pytest.raises(TrainingError, match=r"watches look from the first process.*weight_norms"):
        refuse_passes(row, build("simclr"), watched)
