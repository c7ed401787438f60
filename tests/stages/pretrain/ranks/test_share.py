"""Whose images are whose: the views of a share are those of the same images in one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.artifacts.shards import Shards
from reprise.config.errors import TrainingError
from reprise.config.tables import RunRow
from reprise.reading.decoded import open_decoded
from reprise.reading.order import conflicts, guided_batches
from reprise.runtime.device import Compute
from reprise.runtime.seeds import numpy_rng
from reprise.runtime.world import World
from reprise.training.batches import bounds
from stages.pretrain.inputs.images import refuse_batches, refuse_passes
from stages.pretrain.method import Batch
from stages.pretrain.ranks.share import WHOLE, Share
from stages.pretrain.ranks.together import refuse_other_inputs, shared_step
from stages.pretrain.views.make import BatchedViews, MakeViews, SingleViews
from stages.pretrain.views.staged import StagedViews
from tests.stages.pretrain.conftest import PLAIN, TINY
from tests.stages.pretrain.methods.conftest import build, random_batch
from tests.two_ranks import TwoRanks

PLAN = [replace(PLAIN, flip=True, jitter=0.4, blur=0.5).settings] * 2
CPU = Compute("cpu", "fp32", 1)


def ways() -> dict[str, MakeViews]:
    shards = Shards.open()
    decoded = open_decoded(shards, shards.rows("train"), 3)
    assert decoded.images is not None
    return {
        "batched": BatchedViews(decoded.images, PLAN, 0, "cpu"),
        "image by image": SingleViews(decoded, PLAN, 0, 1),
        "told what was drawn": SingleViews(decoded, PLAN, 0, 1, keep_drawn=True),
        "staged": StagedViews(decoded, PLAN, 0, CPU),
    }


def test_an_image_has_the_same_views_in_every_process(digits: Path) -> None:
    rows = np.random.default_rng(0).permutation(80)[:53]
    for name, views in ways().items():
        whole = views(rows, 1, 2)
        for share in (Share(World(rank, 3), micro) for rank in range(3) for micro in (1, 2)):
            own = share.positions(len(rows))
            assert own is not None
            part = views(rows, 1, 2, own)
            for one, other in zip(part.pixels, whole.pixels, strict=True):
                assert torch.equal(one, other[own]), name
            for drawn, expected in zip(part.drawn, whole.drawn, strict=True):  # of the whole batch, as its rows are
                assert all(torch.equal(drawn["crop"][key], value) for key, value in expected["crop"].items())


@pytest.mark.parametrize("images", [7, 16])
@pytest.mark.parametrize("micro", [1, 2, 3])
def test_processes_have_every_image_once_and_parts_of_every_micro_batch(images: int, micro: int) -> None:
    shares = [Share(World(rank, 2), micro).positions(images) for rank in range(2)]
    assert sorted(np.concatenate(shares)) == list(range(images))
    for number in range(micro):
        first, end = bounds(images, number, micro)
        held = [int(((own >= first) & (own < end)).sum()) for own in shares]
        assert max(held) - min(held) <= 1
    assert WHOLE.positions(images) is None


def test_guided_batches_are_free_of_conflicts_over_all_processes() -> None:
    clusters = np.arange(60) % 10
    batches = guided_batches(clusters, 10, numpy_rng(0))
    assert conflicts(clusters, batches).pairs == 0
    joined = [np.concatenate([Share(World(rank, 3)).of(batch) for rank in range(3)]) for batch in batches]
    assert all(np.array_equal(one, other) for one, other in zip(joined, batches, strict=True))


def test_micro_batches_keep_views_and_rows_of_the_same_images() -> None:
    rows, world = torch.arange(11), World(1, 2)
    own = Share(world, 3).positions(11)
    batch = Batch([rows[own].float()], rows, {"clusters": rows * 2}, world=world)
    parts = [batch.part(number, 3) for number in range(3)]
    assert torch.cat([part.rows for part in parts]).equal(rows)
    for part in parts:
        assert part.own(part.rows).float().equal(part.views[0])
        assert part.clusters.equal(2 * part.rows)
        assert part.own(part.rows.repeat_interleave(3)).equal(part.own(part.rows).repeat_interleave(3))


def test_what_cannot_be_shared_out_is_refused() -> None:
    row = RunRow(name="a", method="simclr", labels="none")
    refuse_batches(row, build("simclr"), 80, 16, accumulate=4, processes=4)
    with pytest.raises(TrainingError, match="each process needs at least one image of every batch"):
        refuse_batches(row, build("simclr"), 80, 16, accumulate=4, processes=5)
    refuse_passes(row, build("simclr"), TINY.model_copy(update={"processes": 2, "chunk_size": 4}))


class Careless(torch.nn.Module):
    """A method that embeds its views past its backbone's forward pass."""

    views_by_image = False

    def embedding_networks(self) -> list[torch.nn.Module]:
        return []

    def step(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return batch.views[0].sum(), {"features": batch.views[0].flatten(1)}


def refusals(world: World) -> list[str]:
    """What two processes say of a careless method, of a network that sees other things than views, and of inputs."""
    own = Share(world).positions(8)
    method, found = build("simclr"), []
    batch = random_batch(method)
    shared = replace(batch, views=[view[own] for view in batch.views], world=world)
    for step, given in (
        (shared_step(Careless(), world), shared),
        (shared_step(method, world), replace(shared, views=[shared.views[0], shared.views[1][:3]])),
    ):
        try:
            step(given)
        except TrainingError as error:
            found.append(str(error))
    try:
        refuse_other_inputs({"seed": 0, "train": {"epochs": 5 + world.rank}}, world)
    except TrainingError as error:
        found.append(str(error))
    return found


def test_methods_and_inputs_that_do_not_fit_are_refused_in_a_sentence(two_ranks: TwoRanks) -> None:
    first, second = two_ranks.call(refusals)
    assert "'features' has 4 rows, the batch 8 images" in first[0]
    assert "7 images in a call, 4 in this process's part" in first[1]
    assert len(first) == 2
    assert "train.epochs: 5 -> 6" in second[2]
