"""`obow`: bags of words by hand and by loops, the vocabulary as a queue, and maps that are too small."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from reprise.config.errors import TrainingError
from reprise.networks.backbone import build_backbone
from stages.check.sketches import sketch_runs
from stages.pretrain.method import Context
from stages.pretrain.methods.clustering.obow import (
    OBoW,
    OBoWParams,
    bag_loss,
    bags_of_words,
    drawn_words,
    inside,
    perplexity,
    squared_distances,
)
from tests.stages.pretrain.conftest import TINY
from tests.stages.pretrain.methods.conftest import SETTINGS, build, random_batch


def test_the_bags_of_two_images_by_hand() -> None:
    """Places and words are numbers on a line, so every distance can be written down; the border must not matter."""
    places = torch.full((2, 1, 3, 4), 99.0, dtype=torch.float64)
    places[0, 0, 1, 1:3] = torch.tensor([0.0, 1.0])
    places[1, 0, 1, 1:3] = torch.tensor([3.0, 3.0])
    words = torch.tensor([[0.0], [1.0], [4.0]], dtype=torch.float64)
    distances = squared_distances(inside(places), words)
    assert distances.tolist() == [[[0.0, 1.0, 16.0], [1.0, 0.0, 9.0]], [[9.0, 4.0, 1.0], [9.0, 4.0, 1.0]]]
    e = math.exp
    first = [1 / (1 + e(-0.5) + e(-8)), 1 / (e(-0.5) + 1 + e(-4.5)), e(-4.5) / (e(-0.5) + 1 + e(-4.5))]
    second = [e(-4.5), e(-2.0), e(-0.5)]
    bags = bags_of_words(distances, 0.5)
    for image, shares in enumerate((first, second)):
        for word, share in enumerate(shares):
            assert float(bags[image, word]) == pytest.approx(share / sum(shares), abs=1e-6)


def test_bags_by_loops(rng: torch.Generator) -> None:
    places = torch.randn(3, 4, 6, 5, generator=rng, dtype=torch.float64)
    words = torch.randn(7, 4, generator=rng, dtype=torch.float64)
    bags = bags_of_words(squared_distances(inside(places), words), 0.7)
    listed = words.tolist()
    for image in range(3):
        largest = [0.0] * 7
        for row in range(1, 5):
            for column in range(1, 4):
                x = places[image, :, row, column].tolist()
                scores = [math.exp(-0.7 * sum((x[d] - word[d]) ** 2 for d in range(4))) for word in listed]
                largest = [max(old, score / sum(scores)) for old, score in zip(largest, scores, strict=True)]
        expected = torch.tensor(largest, dtype=torch.float64) / sum(largest)
        torch.testing.assert_close(bags[image], expected, rtol=0, atol=1e-9)


def test_the_loss_by_loops(rng: torch.Generator) -> None:
    logits = torch.randn(6, 5, generator=rng, dtype=torch.float64)
    bags = torch.softmax(torch.randn(2, 5, generator=rng, dtype=torch.float64), dim=1)
    total = 0.0
    for row in range(6):  # three crops of two images
        exps = [math.exp(float(v)) for v in logits[row]]
        for word in range(5):
            p = float(bags[row % 2, word])
            total += p * (math.log(p) - math.log(exps[word] / sum(exps))) / 6
    assert float(bag_loss(logits, bags)) == pytest.approx(total, abs=1e-9)
    matching = bags.log().repeat(3, 1)
    assert float(bag_loss(matching, bags)) == pytest.approx(0.0, abs=1e-9)


def test_a_step_is_the_sum_over_both_kinds_of_crops() -> None:
    """The targets come from the teacher and the vocabulary from before the step, restated with the parts' own code."""
    method = build("obow", images=16)
    for seed in range(2):
        method.step(random_batch(method, seed=seed))
    batch, words, distance = random_batch(method, seed=5), method.vocabulary.stored(), float(method.distance)
    twin = build("obow", images=16)
    twin.load_state_dict(method.state_dict())
    loss, figures = method.step(batch)
    whole, *crops = batch.views
    distances = squared_distances(inside(twin.teacher["backbone"].forward_features(whole)), words)
    mean = 0.99 * distance + 0.01 * float(distances.amin(dim=2).mean())
    assert float(method.distance) == pytest.approx(mean, rel=1e-5)
    bags, weights = bags_of_words(distances, method.params.sharpness / mean), twin.weigh(words)
    torch.testing.assert_close(weights.norm(dim=1), torch.ones(len(words)))
    expected = 0.0
    for kind in (crops[:2], crops[2:]):  # each kind has its own size, and so its own pass
        logits = (5.0 * twin.backbone(torch.cat(kind)) @ weights.T).detach()
        cross = F.cross_entropy(logits, bags.repeat(len(kind), 1))
        expected += float(cross - torch.special.entr(bags).sum(dim=1).mean())
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    assert figures["projections"].shape == (8, 40)
    assert not figures["projections"][:, len(words) :].any()


def test_a_word_is_the_mean_of_neighbouring_places_and_one_comes_from_each_image() -> None:
    places = torch.arange(2 * 3 * 4 * 4, dtype=torch.float64).view(2, 3, 4, 4)
    means = [[places[i, :, r : r + 3, c : c + 3].mean(dim=(1, 2)) for r in (0, 1) for c in (0, 1)] for i in (0, 1)]
    seen: list[set[int]] = [set(), set()]
    for seed in range(40):
        torch.manual_seed(seed)
        words = drawn_words(places)
        for image in (0, 1):
            fits = [k for k, mean in enumerate(means[image]) if torch.allclose(words[image], mean)]
            seen[image].add(fits[0])
    assert seen == [{0, 1, 2, 3}, {0, 1, 2, 3}]


def test_the_vocabulary_grows_and_then_loses_its_oldest_words() -> None:
    """No multiple of the batch: 40 words, batches of 12."""
    method, pushed = build("obow", images=64), []
    for step in range(6):
        batch = random_batch(method, size=12, seed=step)
        before = method.vocabulary.stored()
        torch.manual_seed(step)
        pushed += drawn_words(inside(_map(method, batch.views[0]))).tolist()
        torch.manual_seed(step)
        loss, figures = method.step(batch)
        assert len(before) == min(12 * step, 40)
        if step == 0:
            assert float(loss.detach()) == 0.0
        else:
            assert 1.0 <= float(figures["perplexity"]) <= len(before)
        found, wanted = method.vocabulary.stored(), torch.tensor(pushed[-40:])
        assert len(found) == len(wanted)
        assert float((wanted[:, None] - found).abs().amax(dim=2).amin(dim=1).max()) < 1e-5


def _map(method: OBoW, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return method.teacher["backbone"].forward_features(images)


def test_perplexity_counts_words() -> None:
    assert float(perplexity(torch.eye(6))) == pytest.approx(6.0)
    assert float(perplexity(torch.eye(6)[:1].repeat(4, 1))) == pytest.approx(1.0)


def test_no_gradient_reaches_teacher_or_vocabulary() -> None:
    method = build("obow", images=16)
    method.step(random_batch(method))
    loss, _ = method.step(random_batch(method, seed=1))
    loss.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert not method.vocabulary.entries.requires_grad
    assert all(p.grad is not None for p in method.weigh.parameters())


def test_the_teacher_sees_the_whole_image_and_only_mirrored() -> None:
    method = build("obow", crop_side=0.71, patch_side=0.43)
    plan = method.view_plan(replace(SETTINGS, size=24))
    assert [view.size for view in plan] == [24, 16, 16, 12, 12, 12]
    assert plan[0].cut is None
    assert {change.params.name for change in plan[0].changes} <= {"flip"}
    assert [(view.cut.params.scale_min, view.cut.params.scale_max) for view in (plan[1], plan[3])] == [
        (0.08, 0.6),
        (0.08, 0.15),
    ]


@pytest.mark.parametrize(("size", "fits"), [(16, False), (24, True), (32, True)])
def test_maps_that_are_too_small_are_refused(size: int, fits: bool) -> None:
    context = Context(64, 0, 8, size, 3, (0.0,) * 3, (1.0,) * 3, 0)
    backbone = build_backbone("resnet_tiny", 3, size, "small", {})
    if fits:
        assert OBoW(backbone, OBoWParams(words=8), context).vocabulary.entries.shape == (8, 64)
        return
    with pytest.raises(TrainingError) as error:
        OBoW(backbone, OBoWParams(words=8), context)
    assert "5 x 5" in error.value.what
    assert error.value.found == "4 x 4 from images of 16 pixels"


def test_check_refuses_small_maps_before_anything_runs() -> None:
    raw: dict = {
        "image": {"size": 16, "channels": 3},
        "train": TINY.model_dump() | {"backbone": "resnet_tiny"},
        "runs": [{"name": "bags", "method": "obow", "labels": "none"}],
        "methods": {"bags": {"words": 8}},
    }
    (problem,) = sketch_runs(raw)[1]
    assert problem.path == "image.size"
    assert "4 x 4" in str(problem.found)
    raw["image"]["size"] = 24
    assert sketch_runs(raw)[1] == []
