"""Mugs: both losses against loops, which pairs of crops count, the buffer of neighbours, each loss by itself."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from reprise.networks.backbone import build_backbone
from reprise.objectives.info_nce import info_nce
from stages.pretrain.methods.distillation.mugs import Mugs, MugsParams, Relation, assignment_loss, nearest, over_crops
from tests.stages.pretrain.methods.conftest import build, random_batch


def test_the_contrast_equals_a_loop_over_crops(rng: torch.Generator) -> None:
    """Two large crops and two small ones: the mean of both sizes' means, without pairs of one crop with itself."""
    student = torch.randn(4, 3, 5, generator=rng, dtype=torch.float64)
    teacher = torch.randn(2, 3, 5, generator=rng, dtype=torch.float64)
    queue = F.normalize(torch.randn(6, 5, generator=rng, dtype=torch.float64), dim=1)

    def by_hand(t: int, s: int) -> float:
        total = 0.0
        for b in range(3):
            q, k = student[s, b] / student[s, b].norm(), teacher[t, b] / teacher[t, b].norm()
            right = math.exp(float(q @ k) / 0.2)
            total -= math.log(right / (right + sum(math.exp(float(q @ n) / 0.2) for n in queue))) / 3
        return total

    large = (by_hand(0, 1) + by_hand(1, 0)) / 2
    small = sum(by_hand(t, s) for t in (0, 1) for s in (2, 3)) / 4
    found = over_crops(lambda t, s: info_nce(student[s], teacher[t], queue, 0.2), 4)
    assert float(found) == pytest.approx((large + small) / 2, abs=1e-9)
    alone = over_crops(lambda t, s: info_nce(student[s], teacher[t], queue, 0.2), 2)
    assert float(alone) == pytest.approx(large, abs=1e-9)


def test_the_assignment_equals_a_loop_and_is_centred(rng: torch.Generator) -> None:
    student, teacher = torch.randn(2, 3, 4, generator=rng, dtype=torch.float64)
    centre = torch.randn(4, generator=rng, dtype=torch.float64)
    want = 0.0
    for b in range(3):
        up = [math.exp(float(teacher[b, k] - centre[k]) / 0.04) for k in range(4)]
        down = [math.exp(float(student[b, k]) / 0.1) for k in range(4)]
        want -= sum(up[k] / sum(up) * math.log(down[k] / sum(down)) for k in range(4)) / 3
    assert float(assignment_loss(student, teacher, centre, 0.1, 0.04)) == pytest.approx(want, abs=1e-9)
    shifted = assignment_loss(student, teacher + 0.7, centre + 0.7, 0.1, 0.04)
    assert float(shifted) == pytest.approx(want, abs=1e-9)


def test_the_centre_follows_the_mean_of_the_teachers_outputs() -> None:
    method = build("mugs", images=64, centre_momentum=0.9)
    batch = random_batch(method)
    with torch.no_grad():
        taught = method.teacher["backbone"](torch.cat(batch.views[:2]))
        outputs = method.teacher["prototypes"](method.teacher["group_head"](taught))
    method.step(batch)
    torch.testing.assert_close(method.centre.value, 0.1 * outputs.mean(dim=0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("length", [16, 24, 20])
def test_the_buffer_is_wholly_overwritten_after_as_many_insertions(length: int) -> None:
    """Also where the batch divides its length: the release's pointer then skips every second batch."""
    method = build("mugs", images=64, buffer=length)
    for vectors in method.buffers_of.values():
        vectors.entries.fill_(1e6)  # what it began with
    kept: dict[str, list[torch.Tensor]] = {"student": [], "teacher": []}
    for step in range(math.ceil(length / 8)):
        batch = random_batch(method, seed=step, start=8 * step)
        with torch.no_grad():
            kept["teacher"].append(method.teacher["backbone"](batch.views[0]))
        kept["student"].append(method.step(batch)[1]["features"].detach())
    for name, vectors in method.buffers_of.items():
        assert vectors.full
        assert not (vectors.entries == 1e6).any()
        if name == "student":
            newest = torch.cat(kept[name])[-length:]
            distance = torch.cdist(vectors.entries, newest).amin(dim=1)
            assert float(distance.max()) < 1e-3


def test_neighbours_are_the_nearest_by_cosine(rng: torch.Generator) -> None:
    features, buffer = torch.randn(4, 6, generator=rng), torch.randn(9, 6, generator=rng)
    for row, found in zip(features, nearest(features, buffer, 3), strict=True):
        cosines = [float(F.cosine_similarity(row, other, dim=0)) for other in buffer]
        assert found.tolist() == sorted(range(9), key=lambda k: -cosines[k])[:3]
    assert nearest(features, buffer[:2], 3).shape == (4, 2)


def test_a_local_group_depends_on_its_neighbours_alone_and_not_on_their_order(rng: torch.Generator) -> None:
    relation = Relation(8, 2, 3).eval()
    features, buffer = torch.randn(2, 8, generator=rng), torch.randn(10, 8, generator=rng)
    found = relation(features, buffer)
    torch.testing.assert_close(relation(features, buffer.flip(0)), found)
    far = buffer.clone()
    near = nearest(features, buffer, 3).unique()
    others = [k for k in range(10) if k not in near]
    far[others] *= 2.0  # farther by length, at the same angle
    torch.testing.assert_close(relation(features, far), found)
    assert not torch.allclose(relation(features, buffer[others]), found)
    assert relation(features, buffer[:0]).shape == (2, 8)


def test_the_whole_is_the_mean_of_the_three_by_their_weights() -> None:
    batches = [random_batch(build("mugs"), seed=s, start=8 * s) for s in range(2)]
    weights = {"instance": 2.0, "local_group": 1.0, "group": 0.5}
    whole = build("mugs", images=16, **weights)
    for batch in batches:
        loss, figures = whole.step(batch)
    parts = [weights[name] * float(figures[f"loss_{name}"]) for name in weights]
    assert float(loss.detach()) == pytest.approx(sum(parts) / 3.5, abs=1e-6)
    for name in weights:
        alone = build("mugs", images=16, **{other: float(other == name) for other in weights})
        for batch in batches:
            loss, shown = alone.step(batch)
        assert float(loss.detach()) == pytest.approx(float(figures[f"loss_{name}"]), abs=1e-5)
        assert {key for key in shown if key.startswith("loss_")} == {f"loss_{name}"}


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing would be learned"):
        MugsParams(instance=0.0, local_group=0.0, group=0.0)


def test_transformers_and_small_crops_go_together() -> None:
    small = build("mugs", images=16, heads=5, patch_rate_factor=0.2)
    assert any("`heads` is 1 instead of 5" in note for note in small.notes)
    assert small.parameter_groups() == []
    network = build_backbone("vit_mini", 3, 8, "small", {"patch_size": 4, "width": 16, "depth": 1, "heads": 2})
    method = Mugs(network, small.params, small.context).train()
    (slow,) = method.parameter_groups()
    assert slow["rate_factor"] == 0.2
    assert {id(p) for p in slow["params"]} == {id(p) for p in network.patch_embed.parameters()}
    loss, _ = method.step(random_batch(method))
    loss.backward()
    assert torch.isfinite(loss)
