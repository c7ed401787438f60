"""Features of patches and of backbones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.numpy import save

from reprise.artifacts.weights.backbones import write_backbone
from reprise.config.errors import BackboneError, MiningError
from reprise.config.plug_ins.registry import load_class
from reprise.media.image.transform import resize_to_square
from reprise.networks.backbone import build_backbone, published_preparation
from reprise.networks.backbones.timm import Timm, TimmParams
from reprise.networks.state import arrays_of
from reprise.runtime.device import Compute
from stages.mine.extractor import Extractor
from stages.mine.extractors.patches import principal

CPU = Compute("cpu", "fp32", 1)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    from sklearn.datasets import load_digits

    pixels = (load_digits().images[:60] * 15).astype(np.uint8)
    return np.repeat(np.kron(pixels, np.ones((1, 2, 2), np.uint8))[..., None], 3, axis=3)


def features(name: str, images: np.ndarray, seed: int = 0, **options) -> np.ndarray:
    kind = load_class("extractors", name, Extractor, "")
    return kind(kind.Params(**options), seed, CPU).features(images, Path())


def test_patch_features_repeat_and_tell_digits_apart(images):
    from sklearn.datasets import load_digits

    options = {"patches": 16, "samples": 2000, "components": 12, "patch_size": 4}
    got = features("patches", images, **options)
    assert got.shape == (60, 12)
    assert (got == features("patches", images, **options)).all()
    assert not np.allclose(got, features("patches", images, seed=1, **options), atol=1e-3)
    distance = ((got[:, None] - got[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    labels = load_digits().target[:60]
    assert (labels[distance.argmin(axis=1)] == labels).mean() > 0.5
    with pytest.raises(MiningError, match="images of 16 pixels, patches of 20"):
        features("patches", images, patch_size=20)


def test_principal_components_keep_distances_when_all_are_kept():
    x = np.random.default_rng(0).normal(size=(30, 5)) + 3
    got = principal(x, 9)
    assert got.shape == (30, 5)
    np.testing.assert_allclose(
        ((got[:, None] - got[None]) ** 2).sum(2), ((x[:, None] - x[None]) ** 2).sum(2), rtol=1e-4, atol=1e-4
    )
    assert (np.diff(got.var(axis=0)) <= 0).all()


@pytest.mark.parametrize("name", ["pixels", "patches"])
def test_large_images_are_described_at_the_stated_side(name, images, tmp_path):
    options = {"patches": {"patches": 8, "samples": 500}}.get(name, {})
    kind = load_class("extractors", name, Extractor, "")
    large = np.kron(images[:20], np.ones((1, 14, 14, 1), np.uint8))  # 224 pixels
    small = np.stack([resize_to_square(image, 24) for image in large])
    found = []
    for number, shown in enumerate((large, small)):
        (work := tmp_path / str(number)).mkdir()
        found.append(kind(kind.Params(side=24, **options), 0, CPU).features(shown, work))
    np.testing.assert_allclose(np.abs(found[0][:, :8]), np.abs(found[1][:, :8]), rtol=1e-3, atol=1e-4)


def test_pixel_features_of_images_that_are_not_larger_are_those_of_the_covariance(images):
    flat = images.reshape(60, -1) / 255
    expected = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    got = features("pixels", images, components=5)
    np.testing.assert_allclose(np.abs(got), np.abs(expected[0][:, :5] * expected[1][:5]), atol=1e-4)


def test_random_backbones_come_from_the_seed(images):
    first, again, other = (features("backbone", images, seed, architecture="resnet_tiny") for seed in (0, 0, 1))
    assert (first == again).all()
    assert not np.allclose(first, other)
    larger = features("backbone", images[:4], architecture="resnet_tiny", size=32)
    assert larger.shape == (4, first.shape[1])
    with pytest.raises(BackboneError, match="unknown backbone"):
        features("backbone", images, architecture="resnet_tinny")


def test_weights_from_a_run_and_from_a_plain_file_give_that_network(images, tmp_path):
    torch.manual_seed(3)
    network = build_backbone("resnet_tiny", 3, 16).eval()
    config = {
        "architecture": "resnet_tiny", "options": {}, "stem": "auto", "input_size": 16, "channels": 3,
        "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "num_features": network.num_features, "heads": {},
    }  # fmt: skip
    (tmp_path / "run").mkdir()
    write_backbone(tmp_path / "run", arrays_of(network.state_dict()), {}, config)
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - torch.tensor(config["mean"]).view(1, 3, 1, 1)) / (
        torch.tensor(config["std"]).view(1, 3, 1, 1)
    )
    with torch.inference_mode():
        want = network(x).numpy()
    np.testing.assert_allclose(features("backbone", images, weights=str(tmp_path / "run")), want, rtol=1e-4, atol=1e-5)

    plain = tmp_path / "plain.safetensors"
    plain.write_bytes(save({k: np.ascontiguousarray(v) for k, v in arrays_of(network.state_dict()).items()}))
    sha = hashlib.sha256(plain.read_bytes()).hexdigest()
    got = features("backbone", images, weights=str(plain), architecture="resnet_tiny", sha256=sha)
    assert got.shape == want.shape
    cases = [
        ({"sha256": "0" * 64}, f"not those that are named.*sha256 {sha}"),
        ({"architecture": "resnet20"}, "do not fit the architecture"),
        ({"weights": str(tmp_path / "gone.safetensors")}, "not there"),
    ]
    for change, message in cases:
        with pytest.raises(BackboneError, match=message):
            features("backbone", images, **({"weights": str(plain), "architecture": "resnet_tiny"} | change))
    with pytest.raises(BackboneError, match=r"3 channels, image\.channels 1"):
        features("backbone", images[..., :1], weights=str(tmp_path / "run"))
    with pytest.raises(ValueError, match="architecture belongs to"):
        features("backbone", images, weights=str(tmp_path / "run"), architecture="resnet_tiny")


def test_only_random_weights_depend_on_the_seed_and_files_count_as_inputs(tmp_path):
    def made(**options) -> Extractor:
        kind = load_class("extractors", "backbone", Extractor, "")
        return kind(kind.Params(**options), 0, CPU)

    random, pretrained = (made(weights=name, architecture="resnet_tiny") for name in ("random", "pretrained"))
    run, plain = made(weights="data/runs/simclr/0"), made(weights="x.safetensors", architecture="resnet_tiny")
    assert [one.seeded for one in (random, pretrained, run, plain)] == [True, False, False, False]
    assert [one.files() for one in (random, pretrained, plain)] == [[], [], [Path("x.safetensors")]]
    assert [path.name for path in run.files()] == ["backbone.safetensors", "config.json"]


def test_pretrained_weights_are_read_as_safetensors_or_not_at_all(images, tmp_path, monkeypatch):
    def refused(repository: str, name: str, revision: str | None) -> str:
        raise OSError(f"no route to the hub for {name}")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refused)
    with pytest.raises(BackboneError, match=r"cannot be fetched \(timm:resnet10t\).*no route .*for model\.safe"):
        features("backbone", images, weights="pretrained", architecture="resnet10t")
    torch.manual_seed(5)
    network = build_backbone("resnet10t", 3, 16, "imagenet").eval()
    path = tmp_path / "model.safetensors"
    classifier = {"fc.weight": np.zeros((1000, 512), np.float32), "fc.bias": np.zeros(1000, np.float32)}
    path.write_bytes(save(arrays_of(network.state_dict()) | classifier))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(path))
    monkeypatch.setattr(torch, "load", refused)
    preparation = published_preparation(Timm("resnet10t", TimmParams()).made_for(), "resnet10t")
    squares = np.stack([resize_to_square(image, 16, **preparation) for image in images])
    x = torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        want = network((x - mean) / std).numpy()
    got = features("backbone", images, weights="pretrained", architecture="resnet10t")
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("stated", [{}, {"hf_hub_id": "them/theirs", "hf_hub_filename": "weights.pt"}])
def test_networks_that_are_not_published_as_safetensors_are_refused(images, stated, monkeypatch):
    monkeypatch.setattr(Timm, "made_for", lambda self: stated)
    with pytest.raises(BackboneError, match="in safetensors, the only format read here"):
        features("backbone", images, weights="pretrained", architecture="resnet10t")


def test_pixels_describe_volumes_too_and_scale_large_ones_down() -> None:
    volumes = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 6, 1), dtype=np.uint8)
    found = features("pixels", volumes, components=4)
    assert found.shape == (12, 4)
    flat = volumes.reshape(12, -1) / 255
    centred = flat - flat.mean(axis=0)
    expected = np.linalg.svd(centred, full_matrices=False)[1][:4]
    np.testing.assert_allclose(np.linalg.norm(found - found.mean(axis=0), axis=0), expected, rtol=1e-4)
    assert features("pixels", volumes, components=4, side=3).shape == (12, 4)
