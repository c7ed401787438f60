"""`proto_contrast`: densities and prototypes by hand, the loss by loops, and which labels reach a run."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reprise.artifacts.labels.label_sets import FILE, SCHEMA, given_for, read_pseudo_labels, write_pseudo_labels
from reprise.artifacts.layout import label_set
from reprise.artifacts.shards import Shards
from reprise.config.errors import TrainingError
from reprise.objectives.supcon import supcon_loss
from stages.check.rules.relations import relation_problems
from stages.pretrain.methods.clustering.proto_contrast import (
    ProtoContrast,
    prototype_loss,
    prototypes_of,
    temperatures_of,
)
from tests.stages.pretrain.conftest import TINY, write_label_set
from tests.stages.pretrain.methods.conftest import build, random_batch
from tests.stages.pretrain.test_run import run

ONE = TINY.model_copy(update={"epochs": 1, "warmup_epochs": 0})


def test_prototypes_and_densities_by_hand() -> None:
    """Three clusters in a plane: two opposite images, one image alone, and one image without a cluster."""
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    prototypes, density, members = prototypes_of(features, torch.tensor([0, 0, 1, -1]), 3)
    half = math.sqrt(0.5)
    expected = torch.tensor([[half, half], [-1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(prototypes, expected)
    loose = half / math.log(12)  # both members lie sqrt(1/2) from (1/2, 1/2)
    assert density.tolist() == pytest.approx([loose, loose, loose], abs=1e-12)
    assert members.tolist() == [2, 1, 0]


def test_temperatures_by_hand() -> None:
    """Of 0, 1, ... 10 the 10th and 90th percentile are 1 and 9, and the clipped values have the mean 5."""
    got = temperatures_of(torch.arange(11, dtype=torch.float64), 0.2)
    expected = [0.2 * min(max(k, 1), 9) / 5 for k in range(11)]
    assert got.tolist() == pytest.approx(expected, abs=1e-12)
    same = temperatures_of(torch.zeros(4), 0.3)  # all members lie on their means
    torch.testing.assert_close(same, torch.full((4,), 0.3))


def test_densities_against_a_loop(rng: torch.Generator) -> None:
    features = F.normalize(torch.randn(30, 5, generator=rng, dtype=torch.float64), dim=1)
    clusters = torch.randint(-1, 4, (30,), generator=rng)
    prototypes, density, members = prototypes_of(features, clusters, 4)
    for k in range(4):
        rows = [features[i].numpy() for i in range(30) if clusters[i] == k]
        mean = sum(rows) / len(rows)
        distance = sum(float(np.linalg.norm(row - mean)) for row in rows) / len(rows)
        assert float(density[k]) == pytest.approx(distance / math.log(len(rows) + 10), abs=1e-9)
        np.testing.assert_allclose(prototypes[k].numpy(), mean / np.linalg.norm(mean), atol=1e-9)
        assert int(members[k]) == len(rows)


def test_the_loss_of_prototypes_by_loops(rng: torch.Generator) -> None:
    features = torch.randn(6, 5, generator=rng, dtype=torch.float64)
    prototypes = F.normalize(torch.randn(3, 5, generator=rng, dtype=torch.float64), dim=1)
    temperatures, clusters = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64), torch.tensor([0, 2, -1, 1, 1, -1])
    terms = []
    for i in range(6):
        if clusters[i] < 0:
            continue
        unit = features[i] / features[i].norm()
        exps = [math.exp(float(unit @ prototypes[k]) / float(temperatures[k])) for k in range(3)]
        terms.append(-math.log(exps[int(clusters[i])] / sum(exps)))
    got = prototype_loss(features, prototypes, temperatures, clusters)
    assert float(got) == pytest.approx(sum(terms) / 4, abs=1e-9)
    assert float(prototype_loss(features, prototypes, temperatures, torch.full((6,), -1))) == 0.0


def parts_of(method: ProtoContrast, **changes: torch.Tensor) -> float:
    """The loss of a fixed batch with other fields."""
    batch = random_batch(method, seed=3)
    with torch.no_grad():
        return float(method.step(replace(batch, fields={**batch.fields, **changes}))[0])


def test_a_step_is_the_sum_of_its_three_parts() -> None:
    method = build("proto_contrast", images=16)
    for step in range(2):
        method.step(random_batch(method, seed=step, start=8 * step))
        method.after_step((step + 1) / 8)
    assert int(method.renewals) == 1
    batch, twin = random_batch(method, seed=3), build("proto_contrast", images=16)
    twin.load_state_dict(method.state_dict())
    loss, _ = method.step(batch)
    with torch.no_grad():
        features = twin.backbone(torch.cat(batch.views))
        z = F.normalize(twin.projector(features), dim=1)
        terms = []
        for i in range(16):
            others = [float(z[i] @ z[k]) / 0.2 for k in range(16) if k != i]
            terms.append(math.log(sum(map(math.exp, others))) - float(z[i] @ z[(i + 8) % 16]) / 0.2)
        given = batch.given
        known = float(supcon_loss(z[:8][given], z[8:][given], batch.clusters[given], 0.07))
        near = float(prototype_loss(features, twin.prototypes, twin.temperatures, batch.clusters.repeat(2)))
    assert float(loss.detach()) == pytest.approx(0.65 * sum(terms) / 16 + 0.35 * known + near, rel=1e-5)


def test_only_given_labels_are_in_the_supervised_part() -> None:
    """Without prototypes, the cluster of an image whose label was not given changes nothing."""
    method = build("proto_contrast")
    given, clusters = torch.arange(8) % 3 == 0, torch.arange(8) % 4
    base = parts_of(method, given=given, clusters=clusters)
    assert parts_of(method, given=given, clusters=torch.where(given, clusters, (clusters + 1) % 4)) == base
    assert parts_of(method, given=given, clusters=torch.where(given, torch.zeros(8).long(), clusters)) != base
    nobody = parts_of(method, given=torch.zeros(8, dtype=torch.bool), clusters=clusters)
    assert math.isfinite(nobody)
    assert nobody != base


def test_prototypes_are_renewed_once_an_epoch_from_its_features() -> None:
    method = build("proto_contrast", images=16)
    for step in range(4):
        method.step(random_batch(method, seed=step, start=8 * step))
        before = method.prototypes.clone()
        method.after_step((step + 1) / 8)
        assert torch.equal(before, method.prototypes) == (step % 2 == 0)
    expected, density, _ = prototypes_of(method.memory.vectors, method.clusters, 4)
    torch.testing.assert_close(method.prototypes, expected)
    torch.testing.assert_close(method.temperatures, temperatures_of(density, 0.2))
    assert float(method.temperatures.mean()) == pytest.approx(0.2)


def test_prototypes_wait_for_their_share_of_the_training() -> None:
    early, late = (build("proto_contrast", images=8, prototypes_from=share) for share in (0.0, 0.5))
    for progress in (0.25, 0.5):
        losses = []
        for method in (early, late):
            method.step(random_batch(method, seed=1))
            method.after_step(progress)
            losses.append(parts_of(method))
        assert (losses[0] == losses[1]) == (progress == 0.5)


def test_the_assigner_is_the_prototypes() -> None:
    method = build("proto_contrast", images=8)
    method.step(random_batch(method))
    method.after_step(0.2)
    heads, x = method.heads(), torch.randn(5, 12)
    assert type(method).taps == ("assigner",)
    logits = F.normalize(x, dim=1) @ method.prototypes.T / method.temperatures
    torch.testing.assert_close(heads["assigner"].memberships(x), torch.softmax(logits, dim=1))


def label_set_with_given_labels(name: str) -> np.ndarray:
    """Four clusters over the 80 images; every third image has a given label."""
    keys = Shards.open().keys[Shards.open().rows("train")]
    given = np.arange(len(keys)) % 3 == 0
    write_label_set(name, keys, np.arange(len(keys)) % 4)
    path = label_set(name, 0) / FILE
    write_pseudo_labels(path, read_pseudo_labels(path).append_column("given", [given.tolist()]))
    assert given_for(read_pseudo_labels(path), keys).tolist() == given.tolist()
    assert read_pseudo_labels(path).column_names == [*SCHEMA.names, "given"]
    return given


def test_given_labels_travel_with_their_images_and_a_set_without_them_is_refused(digits, monkeypatch) -> None:
    given, seen, real = label_set_with_given_labels("semi"), [], ProtoContrast.step
    with monkeypatch.context() as patch:
        patch.setattr(ProtoContrast, "step", lambda self, batch: (seen.append(batch), real(self, batch))[1])
        run("proto_contrast", "a", train=ONE, labels="semi")
    assert seen
    for batch in seen:
        np.testing.assert_array_equal(batch.given.numpy(), given[batch.rows.numpy()])
    write_label_set("mined", Shards.open().keys[Shards.open().rows("train")], np.arange(80) % 4)
    with pytest.raises(TrainingError, match="semi_supervised_mixture"):
        run("proto_contrast", "b", train=ONE, labels="mined")


@pytest.mark.parametrize(("labels", "refused"), [("semi", False), ("plain", True), ("truth", True)])
def test_check_refuses_label_sets_without_given_labels(labels: str, refused: bool) -> None:
    raw: dict = {
        "image": {"size": 16, "channels": 3},
        "train": TINY.model_dump() | {"backbone": "resnet_tiny"},
        "mines": [
            {"name": "semi", "miner": "semi_supervised_mixture", "on": "features/x"},
            {"name": "plain", "miner": "kmeans", "on": "features/x"},
        ],
        "runs": [{"name": "gpc", "method": "proto_contrast", "labels": labels}],
        "methods": {"gpc": {}},
    }
    found = [problem.rule for problem in relation_problems(raw)]
    assert ("method 'proto_contrast' learns from given labels beside mined ones" in found) == refused
