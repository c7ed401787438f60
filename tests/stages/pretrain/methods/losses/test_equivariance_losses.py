"""What equivariant methods tell, restated: `essl` on transformations whose outcomes are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from reprise.config.errors import TrainingError
from reprise.config.params import read_yaml
from reprise.training.views import change_named
from stages.check.sketches import sketch_runs
from stages.pretrain.methods.equivariance.essl import Transformations, enlarged, told_apart
from stages.pretrain.views.settings import refuse_turned
from tests.stages.pretrain.methods.conftest import SETTINGS, build, random_batch

PLAIN = {"rotation": "none", "flip": "none"}


def test_essl_without_transformations_is_simclr():
    essl, simclr = build("essl", **PLAIN), build("simclr", hidden=16, output=8)
    assert essl.state_dict().keys() == simclr.state_dict().keys()
    batch = random_batch(simclr)
    assert len(essl.view_plan(SETTINGS)) == 2
    ours, theirs = essl.step(batch)[0], simclr.step(batch)[0]
    assert float(ours.detach()) == float(theirs.detach())


def test_essl_adds_the_cross_entropy_of_every_outcome():
    """All outcomes of all predicted transformations, each with its weight, restated image by image in evaluation."""
    essl = build("essl", weight=0.7).eval()
    batch = random_batch(essl)
    loss = essl.step(batch)[0].detach()
    without = build("essl", **PLAIN).eval()
    without.load_state_dict(essl.state_dict(), strict=False)
    want = float(without.step(replace(batch, views=batch.views[:2]))[0].detach())
    turned = {"rotation": [lambda x, k=k: np.rot90(x, k, (1, 2)) for k in range(4)]}
    turned["flip"] = [lambda x: x, lambda x: x[:, :, ::-1]]
    for name, outcomes in turned.items():
        wrong = []
        for image in batch.views[2].numpy():
            for k, outcome in enumerate(outcomes):
                shown = torch.from_numpy(outcome(image).copy())[None]
                logits = essl.tell[name](essl.backbone(shown))[0].detach().double()
                wrong.append(math.log(sum(math.exp(value) for value in logits)) - float(logits[k]))
        want += 0.7 * sum(wrong) / len(wrong)
    assert float(loss) == pytest.approx(want, abs=1e-6)


def test_outcomes_and_their_numbers():
    """A pixel in the upper left corner tells every turn and mirror image apart; negatives are those of pixels."""
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    known = Transformations(mean, std)
    corner = torch.zeros(2, 3, 6, 6)
    corner[:, :, 0, 0] = 1.0
    places = {"rotation": [(0, 0), (5, 0), (5, 5), (0, 5)], "flip": [(0, 0), (0, 5)], "upside_down": [(0, 0), (5, 0)]}
    for name, where in places.items():
        shown, numbers = known.all_of(name, corner), known.numbers(name, 2, torch.device("cpu"))
        assert numbers.tolist() == [k for k in range(len(where)) for _ in range(2)]
        for image, number in zip(shown, numbers.tolist(), strict=True):
            assert image[0].nonzero().tolist() == [list(where[number])]
        which = torch.tensor([1, 0])
        assert known.chosen(name, corner, which)[:, 0].nonzero()[:, 1:].tolist() == [list(where[1]), list(where[0])]
    pixels = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    m, s = (torch.tensor(v).view(1, -1, 1, 1) for v in (mean, std))
    torch.testing.assert_close(known.negative((pixels - m) / s) * s + m, 1 - pixels)
    blocks = torch.zeros(1, 1, 8, 8)
    blocks[:, :, 2:4, 4:6] = 1.0  # the upper right quarter of the middle
    assert enlarged(blocks)[0, 0, [0, 0, 7, 7], [0, 7, 0, 7]].tolist() == [0.0, 1.0, 0.0, 0.0]
    assert enlarged(pixels).shape == pixels.shape


def test_what_is_invariant_is_applied_to_the_two_views_at_random():
    essl = build("essl", rotation="invariant", flip="none")
    view = torch.arange(36.0).view(1, 1, 6, 6).expand(400, 3, 6, 6)
    batch = replace(random_batch(essl), views=[view, view], rows=torch.arange(400))
    torch.manual_seed(0)
    shown = essl.at_random(view, batch)
    turns = [torch.rot90(view[0], k, (1, 2)) for k in range(4)]
    counts = [sum(torch.equal(image, turn) for image in shown) for turn in turns]
    assert sum(counts) == 400
    assert min(counts) > 60
    assert [s.size for s in essl.view_plan(SETTINGS)] == [8, 8]


def test_a_predicted_flip_leaves_random_flips_out_of_the_third_view():
    plan = build("essl").view_plan(replace(SETTINGS, changes=(*SETTINGS.changes, change_named("flip"))))
    assert [s.size for s in plan] == [8, 8, 4]
    assert ["flip" in [c.params.name for c in s.changes] for s in plan] == [True, True, False]
    assert build("essl").crops_of_an_image(SETTINGS) == 2 + 4 + 2


def test_the_share_that_is_told():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]])
    loss, share = told_apart(logits, torch.tensor([0, 0, 1, 1]))
    want = sum(math.log(1 + math.exp(-margin)) for margin in (2.0, -1.0, -1.0, 3.0)) / 4
    assert (float(loss), float(share)) == (pytest.approx(want), 0.5)


TURN = {"name": "affine", "rotation": 90}


def planned(name: str, change: dict, **options) -> tuple[tuple[int, ...], list]:
    method = build(name, **options)
    return method.upright, method.view_plan(replace(SETTINGS, changes=(*SETTINGS.changes, change_named(**change))))


@pytest.mark.parametrize(
    ("name", "options", "change"),
    [
        ("sie", {}, TURN),
        ("sie", {}, {"name": "random_field"}),
        ("essl", {}, TURN),
        ("essl", {"rotation": "none", "upside_down": "predicted"}, TURN),
    ],
)
def test_views_that_turn_are_refused_where_a_method_learns_from_how_images_stand(name, options, change):
    with pytest.raises(TrainingError, match=rf"a change turns their views.*Found: {change['name']}\..*`rotation: 0`"):
        refuse_turned(*planned(name, change, **options))


@pytest.mark.parametrize(
    ("name", "options", "change"),
    [
        ("sie", {}, {**TURN, "rotation": 0}),
        ("sie", {}, {"name": "random_field", "geometry": False}),
        ("sie", {}, {**TURN, "probability": 0.0}),
        ("sie", {"equivariant": 0.0}, TURN),
        ("essl", {}, {**TURN, "probability": [1.0, 1.0, 0.0]}),  # the third view alone has to be upright
        ("essl", {"rotation": "invariant"}, TURN),
        ("simclr", {}, TURN),
    ],
)
def test_views_that_turn_are_taken_elsewhere(name, options, change):
    refuse_turned(*planned(name, change, **options))


def test_such_views_are_refused_before_anything_runs(repository):
    raw = read_yaml(repository / "params.yaml")
    raw["runs"] = [{"name": "told", "method": "essl", "labels": "none"}]
    raw["methods"]["told"] = {"rotation": "predicted"}
    sketches, problems = sketch_runs(raw, 100)
    assert ([sketch.row.name for sketch in sketches], problems) == (["told"], [])
    raw["train"]["views"] = {"also": [TURN]}
    assert [(p.path, p.found) for p in sketch_runs(raw, 100)[1]] == [("train.views", "affine")]
