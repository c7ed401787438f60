"""Models that are no backbones: training, resuming, files, and the images that they see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.artifacts.weights.models import CONFIG, WEIGHTS, read_model, write_model
from reprise.config.errors import BackboneError, ParameterError
from reprise.config.plug_ins.registry import load_class, names
from reprise.media.image.transform import resize_to_square
from reprise.networks.state import arrays_of
from reprise.runtime.device import Compute
from reprise.training.model import Model, load_model
from reprise.training.models.autoencoder import Autoencoder, AutoencoderParams

CPU = Compute("cpu", "fp32", 1)
ENTRIES = {"name": "dae", "model": "autoencoder", "parameters": {}, "channels": 3, "size": 16, "seed": 0}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    from sklearn.datasets import load_digits

    pixels = (load_digits().images[:64] * 15).astype(np.uint8)
    return np.repeat(np.kron(pixels, np.ones((1, 2, 2), np.uint8))[..., None], 3, axis=3)


def autoencoder(seed: int = 0, **options) -> Autoencoder:
    return Autoencoder(AutoencoderParams(**options), seed, CPU)


def test_every_kind_keeps_the_protocol(images, tmp_path):
    for name in names("models"):
        kind = load_class("models", name, Model, "")
        model = kind(kind.Params(epochs=1), 0, CPU)
        done = model.train(images, tmp_path)
        assert not done.network.training
        codes = model.codes(done.network, images)
        assert codes.dtype == np.float32
        assert len(codes) == len(images)
        restored = model.restored(done.network, model.seen(images))
        assert restored is None or (restored.shape == model.seen(images).shape and restored.min() >= 0)
        assert load_bits(model.build(3)).keys() == load_bits(done.network).keys()


def load_bits(network: torch.nn.Module) -> dict:
    return arrays_of(network.state_dict())


def test_it_learns_and_a_training_that_is_cut_goes_on_to_the_same_weights(images, tmp_path, monkeypatch):
    options = {"epochs": 3, "batch_size": 32}
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = autoencoder(**options).train(images, tmp_path / "whole")
    assert [row["epoch"] for row in whole.history] == [1, 2, 3]
    assert whole.history[-1]["loss"] < whole.history[0]["loss"]
    real, calls = torch.optim.Adam.step, []

    def step(self, *arguments, **keywords):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        with pytest.raises(KeyboardInterrupt):
            autoencoder(**options).train(images, tmp_path / "cut")
    assert list((tmp_path / "cut").glob("step-*"))
    again = autoencoder(**options).train(images, tmp_path / "cut")
    assert again.history == whole.history
    codes = [autoencoder(**options).codes(done.network, images) for done in (whole, again)]
    assert (codes[0] == codes[1]).all()
    assert codes[0].shape == (64, 128)


def test_a_model_from_its_folder_gives_the_same_bits(images, tmp_path):
    model = autoencoder(epochs=1, seed=3)
    done = model.train(images, tmp_path)
    write_model(tmp_path, load_bits(done.network), ENTRIES | {"seed": 3}, {"history": done.history}, None)
    read, network = load_model(tmp_path, CPU)
    assert read.seed == 3
    assert (read.codes(network, images) == model.codes(done.network, images)).all()
    assert not any(p.requires_grad for p in network.parameters())


def test_large_images_are_seen_at_the_stated_side(images):
    large = np.kron(images[:4], np.ones((1, 14, 14, 1), np.uint8))  # 224 pixels
    model = autoencoder(side=24)
    small = np.stack([resize_to_square(image, 24) for image in large])
    np.testing.assert_array_equal(model.seen(large), small)
    torch.manual_seed(0)
    network = model.build(3).eval()
    np.testing.assert_array_equal(model.codes(network, large), model.codes(network, small))
    assert model.restored(network, model.seen(large)).shape == (4, 24, 24, 3)


def saved(folder: Path, network: torch.nn.Module, **entries) -> Path:
    folder.mkdir()
    write_model(folder, load_bits(network), ENTRIES | entries, {}, None)
    return folder


def test_damaged_and_foreign_folders_are_refused(tmp_path):
    network = autoencoder().build(3)
    with pytest.raises(ParameterError, match="unknown model 'vq'"):
        load_model(saved(tmp_path / "kind", network, model="vq"), CPU)
    with pytest.raises(ParameterError, match=r"parameters\.epoch: unknown parameter"):
        load_model(saved(tmp_path / "parameters", network, parameters={"epoch": 3}), CPU)
    with pytest.raises(BackboneError, match="do not fit a model of the kind 'autoencoder'"):
        load_model(saved(tmp_path / "weights", network, channels=1), CPU)
    with pytest.raises(BackboneError, match=r"describes no model.*channels"):
        read_model(saved(tmp_path / "bands", network, channels=0))
    for name in (CONFIG, WEIGHTS):
        folder = saved(tmp_path / name, network)
        (folder / name).write_bytes(b"\0")
        with pytest.raises(BackboneError, match="cannot be read"):
            read_model(folder)
        (folder / name).unlink()
        with pytest.raises(BackboneError, match="dvc repro train_models"):
            read_model(folder)
    broken = {"weight": np.array([np.nan], np.float32)}
    with pytest.raises(BackboneError, match="weights are not finite"):
        write_model(tmp_path, broken, ENTRIES, {}, None)
