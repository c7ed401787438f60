"""Runs that start from weights, learn from a teacher, or keep layers as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.artifacts.weights.backbones import read_config, read_weights
from reprise.config.errors import BackboneError, TrainingError
from reprise.config.tables import RunRow
from reprise.networks.backbone import build_backbone
from reprise.networks.weights.layers import freeze, frozen_names, layers_of, with_layer_rates
from reprise.networks.weights.starting import Teacher
from reprise.storage.work_folder import file_digest
from stages.pretrain.methods.contrastive.simclr import SimCLR
from stages.pretrain.methods.references.published import Published
from stages.pretrain.run import pretrain
from tests.stages.pretrain.conftest import IMAGE, TINY, write_start
from tests.stages.pretrain.test_run import run as run_method

STILL = TINY.model_copy(update={"learning_rate": 1e-12, "weight_decay": 0.0, "epochs": 1, "warmup_epochs": 0})


def run(out: str, train=TINY, image=IMAGE, kind=SimCLR, **options) -> Path:
    row = RunRow.model_validate({"name": "a", "method": "simclr", "labels": "none", "from": "models/made"})
    row = row.model_copy(update={"method": "published"}) if kind is Published else row
    pretrain(row, 0, image, train, kind.Params(**options), Path(out), restart=False)
    return Path(out)


def moved(weights: dict[str, np.ndarray], folder: Path) -> set[str]:
    """Names of weights and statistics that are no longer those that the run started from."""
    now, _ = read_weights(folder)
    return {name for name in weights if not np.allclose(weights[name], now[name], atol=1e-9)}


def test_a_run_starts_from_its_weights_and_says_so(digits) -> None:
    weights = write_start("a", **{"from": "models/made"})
    first = run("first", train=STILL)
    assert {name.rpartition(".")[2] for name in moved(weights, first)} <= {
        "running_mean", "running_var", "num_batches_tracked"
    }  # fmt: skip
    config = read_config(first)
    assert (config["started_from"], config["start"]["source"]) == ("models/made", "made.pth")
    assert (config["mean"], config["crop_pct"], config["input_size"]) == ([0.4, 0.5, 0.6], 1.0, 16)
    assert read_config(run_method("simclr", "plain", train=STILL))["started_from"] == "random"


def test_other_weights_than_the_row_names_are_refused(digits) -> None:
    write_start("a")
    with pytest.raises(BackboneError, match="not those that the row names"):
        run("out")


def test_grey_images_do_not_fit_coloured_weights(digits) -> None:
    write_start("a", **{"from": "models/made"})
    with pytest.raises(BackboneError, match=r"other bands.*image.channels 1"):
        run("out", image=IMAGE.model_copy(update={"channels": 1}))


def test_published_weights_keep_their_bytes_and_their_preprocessing(digits) -> None:
    weights = write_start("a", size=32, **{"from": "models/made"})
    folder = run("out", kind=Published)
    assert moved(weights, folder) == set()
    config = read_config(folder)
    assert (config["input_size"], config["crop_pct"], config["interpolation"]) == (32, 0.875, "bicubic")
    assert (config["epochs"], config["weights"], config["std"]) == (0, "published", [0.2, 0.25, 0.3])


@pytest.mark.parametrize(
    ("asked", "still"),
    [
        ("stem", {"conv1", "bn1"}),
        (2, {"conv1", "bn1", "layer1"}),
        ("all_but_last", {"conv1", "bn1", "layer1", "layer2"}),
    ],
)
def test_frozen_layers_keep_weights_and_statistics(digits, asked, still) -> None:
    weights = write_start("a", **{"from": "models/made"})
    folder = run("out", freeze=asked)
    assert {name.split(".")[0] for name in weights} - {n.split(".")[0] for n in moved(weights, folder)} == set(still)
    assert any(f"`freeze: {asked}`" in note for note in read_config(folder)["notes"])


def test_a_network_of_which_nothing_would_learn_is_refused(digits) -> None:
    write_start("a", **{"from": "models/made"})
    with pytest.raises(TrainingError, match="no layer of the backbone would learn"):
        run("out", freeze=4)


def test_layers_of_networks_of_timm_and_of_ours_cover_every_weight_once() -> None:
    for name, stem, last in (
        ("resnet_tiny", "conv1.weight", "layer3.0.conv2.weight"),
        ("vit_mini", "patch_embed.proj.weight", "norm.weight"),
        ("resnet10t", "conv1.0.weight", "layer4.0.conv2.weight"),
    ):
        network = build_backbone(name, 3, 32)
        layers = layers_of(network)
        listed = [n for layer in layers for n in layer]
        assert sorted(listed) == sorted(n for n, _ in network.named_parameters()), name
        assert stem in layers[0]
        assert last in layers[-1]


def test_the_rate_of_a_layer_is_a_share_of_that_of_the_layer_above() -> None:
    network = build_backbone("resnet_tiny", 3, 16)
    bias = [network.bn1.bias, torch.nn.Parameter(torch.zeros(3))]
    groups = with_layer_rates(network, [{"params": bias, "rate_factor": 2.0}], 0.5)
    names = {id(p): n for n, p in network.named_parameters()}
    rates = {names.get(id(p), "head"): g["rate_factor"] for g in groups for p in g["params"]}
    assert len(rates) == 1 + len(names)  # each parameter is in one group
    assert (rates["layer3.0.conv1.weight"], rates["layer1.0.conv1.weight"], rates["conv1.weight"]) == (
        0.5,
        0.125,
        0.0625,
    )
    assert (rates["bn1.bias"], rates["head"]) == (0.125, 2.0)


def test_layer_rates_change_training_and_a_killed_run_goes_on_with_them(digits, monkeypatch) -> None:
    write_start("a", **{"from": "models/made"})
    options = {"layer_decay": 0.5, "freeze": "stem", "learning_rate": 0.05}
    whole, plain = run("whole", **options), run("plain", freeze="stem", learning_rate=0.05)
    assert file_digest(whole / "backbone.safetensors") != file_digest(plain / "backbone.safetensors")
    real, calls = torch.optim.SGD.step, []

    def step(self, *arguments, **keywords):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return real(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", step)
        with pytest.raises(KeyboardInterrupt):
            run("resumed", **options)
    assert file_digest(run("resumed", **options)) == file_digest(whole)


def test_frozen_modules_stay_in_evaluation_mode() -> None:
    network = build_backbone("resnet_tiny", 3, 16)
    names = frozen_names(layers_of(network), 2, "")
    modules = freeze(network, names)
    assert {n for n, p in network.named_parameters() if not p.requires_grad} == names
    assert network.bn1 in modules
    assert network.layer1[0].bn2 in modules
    assert network.layer2[0].bn1 not in modules


def test_a_teacher_sees_what_its_own_normalisation_makes_of_the_images() -> None:
    network = torch.nn.Flatten()
    network.num_features = 12
    images = torch.rand(2, 3, 2, 2)
    mean, std, mine, scale = (
        torch.tensor(v) for v in ([0.1, 0.2, 0.3], [0.5, 0.6, 0.7], [0.4, 0.4, 0.4], [0.2, 0.3, 0.4])
    )
    seen = (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    teacher = Teacher(network, mean.tolist(), std.tolist(), mine.tolist(), scale.tolist())
    expected = ((images - mine.view(3, 1, 1)) / scale.view(3, 1, 1)).flatten(1)
    torch.testing.assert_close(teacher(seen), expected)
    assert teacher.train().training is False
