"""Runs that go on from other runs: what they start from, which labels they see, and what they say of both."""

from __future__ import annotations

import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reprise.artifacts.shards import Shards
from reprise.artifacts.weights.backbones import read_config, read_weights
from reprise.config.errors import TrainingError
from reprise.config.plug_ins.registry import load_class
from reprise.config.tables import AdaptRow, RunRow
from reprise.objectives.ascent import ascend
from reprise.storage.work_folder import file_digest
from stages.pretrain.method import Method
from stages.pretrain.run import pretrain
from stages.pretrain.strategy import share_of_each_class
from tests.stages.pretrain.conftest import IMAGE, TINY, write_label_set
from tests.stages.pretrain.methods.conftest import build, random_batch
from tests.workspace import make_shards

SHORT = TINY.model_copy(update={"epochs": 1, "warmup_epochs": 0})
STILL = {"learning_rate": 1e-12, "weight_decay": 0.0}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, the label set `mined` of all training images, and one trained run, `data/runs/first/0`."""
    folder = tmp_path_factory.mktemp("adapted")
    with chdir(folder):
        make_shards()
        shards = Shards.open()
        keys = shards.keys[shards.rows("train")]
        write_label_set("none", keys, np.full(len(keys), -1))
        write_label_set("mined", keys, np.arange(len(keys)) % 10)
        row = RunRow(name="first", method="simclr", labels="none")
        params = load_class("methods", "simclr", Method, "").Params()
        pretrain(row, 0, IMAGE, SHORT, params, Path("data/runs/first/0"), restart=False)
    return folder


@pytest.fixture
def parent(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run that others go on from, seen from its workspace."""
    monkeypatch.chdir(workspace)
    return Path("data/runs/first/0")


def adapt(out: str, method: str = "finetune", labels: str = "mined", source: str = "first", **options) -> Path:
    row = AdaptRow.model_validate({"name": out, "method": method, "labels": labels, "from": f"runs/{source}"})
    params = load_class("methods", method, Method, "").Params(**options)
    folder = Path("data/runs", out, "0")
    pretrain(row, 0, IMAGE, SHORT, params, folder, restart=False)
    return folder


def moved(first: Path, then: Path) -> bool:
    before, after = read_weights(first)[0], read_weights(then)[0]
    weights = [name for name in before if "running" not in name and "num_batches" not in name]
    return any(not np.allclose(before[name], after[name], atol=1e-9) for name in weights)


def test_an_adapted_run_begins_with_the_weights_of_its_run_and_says_what_was_before(parent) -> None:
    config = read_config(adapt("still", epochs=1, **STILL))
    assert not moved(parent, Path("data/runs/still/0"))
    assert moved(parent, adapt("tuned", epochs=2))
    assert (config["started_from"], config["labels"], config["images_seen"]) == ("runs/first", "mined", 80)
    (before,) = config["before"]
    assert (before["run"], before["labels"], before["images_seen"]) == ("first", "none", 80)
    assert any("could read: mined" in note for note in config["notes"])
    assert "before" not in read_config(parent)


def test_a_method_without_labels_goes_on_too_and_the_account_keeps_every_run(parent) -> None:
    adapt("tuned", epochs=1)
    config = read_config(adapt("more", "simclr", "none", source="tuned"))
    assert [step["run"] for step in config["before"]] == ["first", "tuned"]
    assert any("could read: mined" in note for note in config["notes"])  # by the run before it
    assert any("no labels were read" in note for note in read_config(adapt("longer", "simclr", "none"))["notes"])


def test_few_labels_are_a_share_of_each_class_and_the_others_are_never_seen(parent, monkeypatch) -> None:
    shards = Shards.open()
    keys = shards.keys[shards.rows("train")]
    classes = np.where(np.arange(len(keys)) < 60, np.arange(len(keys)) % 3, -1)
    write_label_set("some", keys, classes)
    seen: list[int] = []
    method = load_class("methods", "finetune", Method, "")
    real = method.step
    monkeypatch.setattr(method, "step", lambda self, batch: (seen.extend(batch.rows.tolist()), real(self, batch))[1])
    config = read_config(adapt("few", labels="some", epochs=2, percent=20.0))
    assert sorted(np.bincount(classes[sorted(set(seen))])) == [4, 4, 4]
    assert (len(seen), config["images_seen"], config["batch_size_used"]) == (24, 24, 12)
    assert config["heads"] == {"classifier": [config["num_features"], 3]}
    assert read_weights(Path("data/runs/few/0"))[1]["classifier.weight"].shape == (3, config["num_features"])
    seen.clear()
    adapt("all", labels="some", epochs=1)
    assert sorted(seen) == list(range(60))


def test_every_class_gives_one_image_at_least_and_seeds_draw_others() -> None:
    classes = np.array([0] * 50 + [1] * 3 + [-1] * 5)
    first, other = (share_of_each_class(classes, 10.0, np.random.default_rng(seed)) for seed in (0, 1))
    assert np.bincount(classes[first]).tolist() == [5, 1]
    assert first.tolist() == sorted(first.tolist()) != other.tolist()
    assert share_of_each_class(np.full(4, -1), 10.0, np.random.default_rng(0)).tolist() == []


@pytest.mark.parametrize("method", ["finetune", "adversarial", "moment"])
def test_a_strategy_that_is_killed_takes_the_steps_that_it_would_have_taken(parent, monkeypatch, method) -> None:
    options = {"epochs": 2, "percent": 70.0, "learning_rate": 0.2}
    whole = file_digest(adapt("tuned", method, **options))
    shutil.rmtree("data/runs/tuned")
    real, calls = torch.optim.SGD.step, []

    def step(self, *arguments, **keywords):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", step)
        with pytest.raises(KeyboardInterrupt):
            adapt("tuned", method, **options)
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, *a, **k: (calls.append(1), real(self, *a, **k))[1])
    calls.clear()
    assert file_digest(adapt("tuned", method, **options)) == whole
    assert len(calls) < 8  # of eight steps: it went on from a checkpoint


def test_fine_tuning_is_cross_entropy_of_a_classifier_that_begins_at_zero() -> None:
    method = build("finetune", label_smoothing=0.2)
    batch = random_batch(method)
    assert method.step(batch)[0].item() == pytest.approx(np.log(4), rel=1e-6)
    torch.nn.init.normal_(method.classifier.weight)
    loss, logs = method.step(batch)
    logits = logs["features"] @ method.classifier.weight.T + method.classifier.bias
    target = 0.8 * F.one_hot(batch.clusters, 4) + 0.05
    assert loss.item() == pytest.approx(-(target * logits.log_softmax(1)).sum(1).mean().item(), rel=1e-5)


def test_second_moments_tell_classes_whose_means_are_equal_and_reach_the_backbone() -> None:
    method = build("moment")
    tokens = torch.randn(64, 30, 12, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(64) % 2
    tokens[:, :, 1] = torch.where(classes == 1, 1.0, -1.0)[:, None] * tokens[:, :, 0]
    tokens -= tokens.mean(dim=1, keepdim=True)
    optimizer = torch.optim.Adam(method.classifier.parameters(), 0.01)
    for _ in range(60):
        loss = F.cross_entropy(method.classifier(tokens), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (method.classifier(tokens).argmax(1) == classes).float().mean().item() > 0.95
    batch = random_batch(method)
    loss, logs = method.step(batch)
    loss.backward()
    assert method.backbone.convolution.weight.grad.abs().sum().item() > 0
    torch.testing.assert_close(logs["features"], method.backbone(batch.views[0]), rtol=1e-3, atol=1e-4)
    method.backbone.forward_features = lambda x: x
    with pytest.raises(TrainingError, match="3 numbers for a place, 12 for an image"):
        method.step(batch)


def test_the_ascent_reaches_the_corner_that_a_linear_loss_has_its_maximum_in() -> None:
    x, slope = torch.full((2, 3, 4, 4), 0.5), torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    x[0, 0, 0, 0] = 1.0
    found = ascend(lambda images: (images * slope).sum(), x, x.clone(), 0.1, 4)
    torch.testing.assert_close(found, (x + 0.1 * slope.sign()).clamp(0, 1))
    assert ascend(lambda images: torch.zeros(()), x, x, 0.1, 2) is None


def test_adversarial_images_stay_within_reach_are_worse_and_leave_statistics_alone() -> None:
    method = build("adversarial", epsilon=0.1, steps=4)
    torch.nn.init.normal_(method.classifier.weight)
    method.mean += 0.5
    method.std *= 0.5
    batch = random_batch(method)
    views = ((batch.views[0] * 0.1 + 0.5).clamp(0, 1) - 0.5) / 0.5
    before = {name: value.clone() for name, value in method.state_dict().items()}
    changed = method.changed(views, batch)
    assert float((changed - views).abs().max()) <= 0.1 / 0.5 + 1e-6
    assert float((changed * 0.5 + 0.5).min()) >= -1e-6
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert method.backbone.norm.training
    method.eval()

    def loss(images: torch.Tensor) -> float:
        return F.cross_entropy(method.classifier(method.backbone(images)), batch.clusters).item()

    assert loss(changed) > loss(views) + 0.1
