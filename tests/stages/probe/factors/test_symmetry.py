"""The probe `symmetry` on networks whose answers are known: an average over the group, and maps that only move."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from stages.probe.data import ProbeData
from stages.probe.images.image_data import ImageData
from stages.probe.probes.factors.symmetry import Symmetry, linear, moved_places, moves
from tests.stages.probe.images.test_on_images import EMBEDDINGS, RUN, images, write_run

__all__ = ["images"]  # the fixture


@pytest.fixture(autouse=True)
def code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the code of all these modules takes a second a test."""
    monkeypatch.setattr("stages.probe.images.local_features.keyed_by_code", lambda inputs, code: inputs)


def judged(images: ImageData, group: str = "d4") -> dict[str, float]:
    result = Symmetry(Symmetry.Params(group=group, images=48)).run(images)
    assert all(f.low is None or (f.low <= f.value + 1e-9 and f.value <= f.high + 1e-9) for f in result.metrics.values())
    return {name: figure.value for name, figure in result.metrics.items()}


class Corners(nn.Module):
    """Four features: the means of the quarters of an image, which turns and mirror images permute."""

    num_features = 4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(x.mean(dim=1, keepdim=True), 4).flatten(1)


def test_an_average_over_the_group_is_invariant_and_its_places_move(images):
    write_run("frame_average", 64)
    figures = judged(ImageData(EMBEDDINGS, RUN), "c4")
    assert set(figures) == {f"{g}{s}" for g in ("turn", "half_turn") for s in ("", "_follows", "_same", "_places")}
    for name in ("turn", "half_turn"):
        assert figures[name] < 1e-5
        assert figures[f"{name}_same"] > 1 - 1e-9
        assert figures[f"{name}_places"] < 1e-5


def test_what_moves_by_a_permutation_follows_and_does_not_stay(images, monkeypatch):
    monkeypatch.setattr(ImageData, "network", lambda self: Corners())
    figures = judged(images)
    for name in ("turn", "half_turn", "flip"):
        assert figures[f"{name}_follows"] > 0.95
        assert figures[name] > 0.1
        assert figures[f"{name}_same"] < figures[f"{name}_follows"] - 0.1


def test_an_untrained_network_does_neither_exactly(images):
    figures = judged(images)
    assert set(figures) >= {"flip", "flip_places"}
    assert figures["turn"] > 0.01
    assert figures["turn_places"] > 0.01
    assert figures == judged(ImageData(EMBEDDINGS, RUN))


def test_the_map_is_ridge_regression():
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    x, y, new = rng.normal(size=(50, 3)) * [1, 5, 0.1], rng.normal(size=(50, 4)), rng.normal(size=(9, 3))
    standard = (x - x.mean(0)) / x.std(0)
    want = Ridge(alpha=0.3 * 50).fit(standard, y).predict((new - x.mean(0)) / x.std(0))
    np.testing.assert_allclose(linear(x, y, 0.3)(new), want, atol=1e-9)


def test_a_last_batch_of_one_image_does_not_count_as_two_equal_ones():
    """The distance of two images is the mean over those that have a next one."""
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 5, 3, 2, 2, generator=rng)
    batches = [(maps[0, :4], maps[1, :4]), (maps[0, 4:], maps[1, 4:])]
    data = SimpleNamespace(local=SimpleNamespace(changed=lambda keys, change: iter(batches)))
    turn = moves("c4")["turn"]
    original, changed = maps.double()
    apart = sum(float((changed[i] - changed[(i - 1) % 4]).norm()) for i in range(4)) / 4
    want = [float((changed[i] - turn.moved(original[i])).norm()) / apart for i in range(5)]
    np.testing.assert_allclose(moved_places(data, np.arange(5), turn), want, rtol=1e-6)


def test_where_it_cannot_run_it_says_why(images):
    assert set(moves("c4")) == {"turn", "half_turn"}
    without = Symmetry(Symmetry.Params()).run(ProbeData(EMBEDDINGS))
    assert without.protocol["note"] == "not run: it moves images, so it belongs to a group of `checks`"
