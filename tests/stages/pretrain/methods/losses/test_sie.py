"""`sie`: its terms restated with plain loops in float64, one answer for q and -q, and poses that are refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from reprise.config.errors import TrainingError
from reprise.measures.geometry.quaternions import between
from stages.pretrain.method import Batch, Context
from stages.pretrain.methods.equivariance.sie import SIE, Turning, rotation_between
from tests.stages.pretrain.conftest import PLAIN
from tests.stages.pretrain.methods.conftest import TinyBackbone, build, random_batch


def doubled(method: SIE, batch: Batch) -> Batch:
    """The batch in float64, after the method has been made float64 too."""
    method.double()
    return replace(
        batch,
        views=[view.double() for view in batch.views],
        facts={"pose": torch.from_numpy(method.context.facts["pose"][batch.rows.numpy()])},
    )


def hinge(rows: list[list[float]]) -> float:
    total = 0.0
    for column in zip(*rows, strict=True):
        mean = sum(column) / len(column)
        variance = sum((value - mean) ** 2 for value in column) / (len(column) - 1)
        total += max(0.0, 1 - math.sqrt(variance + 1e-4)) / len(rows[0])
    return total


def covariances(rows: list[list[float]]) -> float:
    n, d = len(rows), len(rows[0])
    means = [sum(column) / n for column in zip(*rows, strict=True)]
    total = 0.0
    for i in range(d):
        for j in range(d):
            if i != j:
                total += (sum((r[i] - means[i]) * (r[j] - means[j]) for r in rows) / (n - 1)) ** 2
    return total / d


def squared(a: list[list[float]], b: list[list[float]]) -> float:
    pairs = [(x, y) for r, s in zip(a, b, strict=True) for x, y in zip(r, s, strict=True)]
    return sum((x - y) ** 2 for x, y in pairs) / len(pairs)


@pytest.mark.parametrize("frame", ["object", "camera"])
def test_the_loss_is_its_formula(frame: str) -> None:
    method = build("sie", equivariant=0.4, weight=0.7, invariance=3.0, variance=5.0, covariance=2.0, frame=frame)
    assert isinstance(method, SIE)
    batch = doubled(method, random_batch(method, 8))
    loss, logged = method.step(batch)
    features = method.backbone(batch.views[0])
    kept = 12 - 5  # 0.4 of 12 features, rounded
    inv = method.invariant_projector(features[:, :kept]).tolist()
    turned = method.equivariant_projector(features[:, kept:])
    poses, width = batch.fact("pose").numpy(), turned.shape[1]
    weight, predicted = method.turning.linear.weight.reshape(width, 4, width), []  # output, number, input
    for i in range(4):
        q = between(poses[i], poses[i + 4], frame)
        matrix = sum(float(q[k]) * weight[:, k] for k in range(4))
        predicted.append((matrix @ turned[i]).tolist())
    turned_rows = turned.tolist()
    whole = [a + b for a, b in zip(inv, turned_rows, strict=True)]
    terms = {
        "invariance": squared(inv[:4], inv[4:]),
        "equivariance": squared(predicted, turned_rows[4:]),
        "variance": (hinge(whole[:4]) + hinge(whole[4:]) + hinge(predicted)) / 2,
        "covariance": covariances(whole[:4]) + covariances(whole[4:]),
    }
    for name, value in terms.items():
        assert float(logged[name].detach()) == pytest.approx(value, rel=1e-6), name
    total = 3 * terms["invariance"] + 0.7 * 3 * terms["equivariance"] + 5 * terms["variance"] + 2 * terms["covariance"]
    assert float(loss.detach()) == pytest.approx(total, rel=1e-6)


def test_without_an_equivariant_part_it_is_vicreg_on_the_two_views() -> None:
    method = build("sie", equivariant=0.0, invariance=25.0, variance=50.0)
    assert isinstance(method, SIE)
    batch = doubled(method, random_batch(method, 8))
    loss, logged = method.step(batch)
    other = build("vicreg", variance=25.0)
    z = method.invariant_projector(method.backbone(batch.views[0]))
    other.double()
    other.backbone, other.projector = torch.nn.Identity(), torch.nn.Identity()
    expected, _ = other.step(Batch([z[:4], z[4:]], batch.rows[:4]))
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
    assert "equivariance" not in logged
    assert not hasattr(method, "turning")


@pytest.mark.parametrize("frame", ["object", "camera"])
def test_q_and_minus_q_predict_alike(frame: str) -> None:
    """Of either pose; and half turns, whose w is 0, have one sign too."""
    method = build("sie", frame=frame)
    batch = random_batch(method, 8)
    loss = method.step(batch)[0]
    for sign in (torch.tensor([-1.0] * 4 + [1.0] * 4), torch.tensor([1.0, -1.0] * 4)):
        again = replace(batch, facts={"pose": batch.fact("pose") * sign[:, None]})
        assert torch.equal(method.step(again)[0], loss)
    upright, half = torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[0.0, 0, -0.6, 0.8]])
    found = rotation_between(upright, half, frame)
    assert torch.equal(found, rotation_between(upright, -half, frame))
    assert torch.equal(found, -half)


def test_a_linear_hypernetwork_without_a_sign_would_not() -> None:
    torch.manual_seed(0)
    turning, z, q = Turning(5), torch.randn(3, 5), torch.randn(3, 4)
    torch.testing.assert_close(turning(z, -q), -turning(z, q))


@pytest.mark.parametrize("frame", ["object", "camera"])
def test_rotations_are_those_of_the_measure(frame: str) -> None:
    q = np.random.default_rng(0).normal(size=(2, 50, 4))
    first, second = q / np.linalg.norm(q, axis=2, keepdims=True)
    found = rotation_between(torch.from_numpy(first), torch.from_numpy(second), frame)
    np.testing.assert_allclose(found.numpy(), between(first, second, frame), atol=1e-12)


def test_each_part_sees_its_own_features_and_the_second_alone_sees_the_pose() -> None:
    method = build("sie", variance=0.0, covariance=0.0)
    assert isinstance(method, SIE)
    batch = random_batch(method, 8)

    def gradients(weight: float) -> dict[str, Tensor]:
        method.params = method.params.model_copy(update={"weight": weight})
        method.zero_grad(set_to_none=True)
        method.step(batch)[0].backward()
        return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}

    alone = gradients(0.0)
    assert all(float(alone[f"turning.linear.{n}"].abs().sum()) == 0 for n in ("weight",))
    assert float(alone["equivariant_projector.output.weight"].abs().sum()) == 0
    both = gradients(1.0)
    assert float(both["equivariant_projector.output.weight"].abs().sum()) > 0
    torch.testing.assert_close(both["invariant_projector.output.weight"], alone["invariant_projector.output.weight"])


def test_views_are_not_mirrored() -> None:
    settings = replace(PLAIN, flip=True).settings
    assert any(change.params.name == "flip" for change in settings.changes)
    (planned,) = build("sie").view_plan(settings)
    assert not any(change.params.name == "flip" for change in planned.changes)


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        (np.full((3, 4), np.nan), "every training image needs a pose.*Found: 3 of 3 images without one"),
        (np.ones((3, 5)), "a unit quaternion w, x, y, z.*Found: 5 numbers an image"),
        (np.array([[1.0, 0, 0, 0], [1, 0, 0.1, 0.2]]), r"Found: 1, 0, 0.1, 0.2, of length 1.025"),
    ],
)
def test_poses_that_are_no_quaternions_are_refused(poses: np.ndarray, message: str) -> None:
    context = Context(len(poses), 0, 1, 8, 3, (0.0,) * 3, (1.0,) * 3, 0, facts={"pose": poses})
    with pytest.raises(TrainingError, match=message):
        SIE(TinyBackbone(), SIE.Params(), context)


def test_a_part_has_at_least_one_feature() -> None:
    for share, follows in ((0.01, 1), (0.5, 6), (0.99, 11)):
        method = build("sie", equivariant=share)
        assert isinstance(method, SIE)
        assert method.follows == follows
