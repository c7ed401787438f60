"""The attack: within its budget, exact on a linear backbone, stronger than noise, and the backbone stays as it is."""

from __future__ import annotations

import pytest
import torch

from stages.probe.probes.finetune.adversarial import Adversarial
from tests.stages.probe.images.test_on_images import RUN, contents, images, write_run  # noqa: F401 - a fixture

ZERO, ONE = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)


def probe(**params: float) -> Adversarial:
    return Adversarial(Adversarial.Params(**params))


def test_one_linear_feature_moves_by_the_budget_times_its_weights() -> None:
    """|w (x + e) - w x| is largest at e = epsilon sign(w): epsilon |w|_1, whatever the start."""
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(9, generator=rng)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(9, 1, bias=False))
    network[1].weight.data = weight[None]
    x = 0.5 + 0.1 * torch.randn(6, 1, 3, 3, generator=rng)
    start = x + 0.01 * (2 * torch.rand(x.shape, generator=rng) - 1)
    found = probe(epsilon=0.01, steps=10).attack(network.requires_grad_(False), x, start, ZERO, ONE)
    assert found is not None
    assert float((found - x).abs().max()) <= 0.01 + 1e-6
    moved = (network(found) - network(x)).abs().ravel()
    assert moved.tolist() == pytest.approx([0.01 * float(weight.abs().sum())] * 6, rel=1e-4)


def test_images_stay_images() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    x = torch.tensor([0.0, 1.0, 0.005, 0.995]).view(1, 1, 2, 2)
    found = probe(epsilon=0.1, steps=3).attack(network, x, x + 0.01, ZERO, ONE)
    assert found is not None
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


def test_the_attack_moves_more_than_noise_and_the_backbone_stays(images) -> None:  # noqa: F811
    before = contents(RUN)
    found = probe(epsilon=0.03, steps=5, images=40, batch_size=16).run(images)
    assert contents(RUN) == before
    value = {name: figure.value for name, figure in found.metrics.items()}
    assert set(value) == {"cka", "distance", "cka_noise", "distance_noise"}
    assert value["distance"] > 1.5 * value["distance_noise"] > 0
    assert value["cka"] < value["cka_noise"] <= 1 + 1e-9
    figure = found.metrics["distance"]
    assert figure.low < figure.value < figure.high
    again = probe(epsilon=0.03, steps=5, images=40, batch_size=16).run(images)
    assert again.metrics == found.metrics


def test_a_budget_near_nothing_moves_nothing(images) -> None:  # noqa: F811
    found = probe(epsilon=1e-7, steps=2, images=20).run(images)
    assert found.metrics["cka"].value == pytest.approx(1, abs=1e-3)
    assert found.metrics["distance"].value < 1e-2


def test_a_backbone_without_gradient_is_named(images, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    class Steps(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.detach().flatten(1).round()

    monkeypatch.setattr(images, "network", Steps)
    found = probe(images=8).run(images)
    assert not found.metrics
    assert "no gradient" in found.protocol["note"]
