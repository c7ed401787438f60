"""Exported backbones compute the features of the backbone, in programs that know nothing of Reprise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import reprise
from reprise.artifacts.weights.backbones import write_backbone
from reprise.backbones.exports.form import TOLERANCE, difference
from reprise.backbones.exports.forms import FORMS, write_form
from reprise.backbones.loaded import LoadedBackbone, load_backbone
from reprise.config.errors import BackboneError
from reprise.networks.backbone import build_backbone
from reprise.networks.state import arrays_of

TORCHVISION = str(Path(__file__).parents[3] / "reprise/networks/torchvision_schemas.py")


def run_of(folder: Path, name: str, size: int, channels: int = 3, stem: str = "auto") -> LoadedBackbone:
    """The folder of a run whose running statistics are those of no fresh network."""
    torch.manual_seed(0)
    network = build_backbone(name, channels, size, stem)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    config = {
        "architecture": name, "options": {}, "stem": stem, "input_size": size, "channels": channels,
        "mean": [0.4] * channels, "std": [0.2] * channels, "num_features": network.num_features, "heads": {},
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    write_backbone(folder, arrays_of(network.state_dict()), {}, config)
    return load_backbone(folder)


def tried(backbone: LoadedBackbone) -> tuple[torch.Tensor, np.ndarray]:
    """Images of another number than the examples, and the backbone's features of them."""
    images = torch.randn(3, *backbone.shape)
    with torch.inference_mode():
        return images, backbone(images).numpy()


def try_alone(program: str, backbone: LoadedBackbone, folder: Path) -> None:
    """Run a program that finds images and features in the folder, in a process that cannot find Reprise."""
    images, want = tried(backbone)
    np.savez(folder / "tried.npz", images=images.numpy(), want=want)
    command = [sys.executable, "-I", "-c", program, str(folder), TORCHVISION]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("name", "size", "channels", "stem"),
    [
        ("resnet_tiny", 16, 3, "auto"),
        ("vit_mini", 16, 1, "auto"),
        ("resnet18", 32, 5, "small"),
        ("resnet3d_tiny", 16, 1, "auto"),
        ("frame_average", 16, 3, "auto"),
    ],
)
@pytest.mark.parametrize("form", ["timm", "torch"])
def test_features_are_those_of_the_backbone(tmp_path, form, name, size, channels, stem):
    backbone = run_of(tmp_path / "run", name, size, channels, stem)
    assert write_form(backbone, form, tmp_path)[0] <= TOLERANCE
    if form == "timm":
        assert json.loads((tmp_path / "config.json").read_text())["architecture"] == "reprise_backbone"
        if name in ("resnet3d_tiny", "frame_average"):
            with pytest.raises(BackboneError, match="sees volumes|no pooling of places"):
                write_form(backbone, "huggingface", tmp_path)
        else:
            assert write_form(backbone, "huggingface", tmp_path)[0] <= TOLERANCE


@pytest.mark.parametrize(
    ("argument", "why"),
    [
        ({"num_classes": 10}, "has no classifier"),
        ({"global_pool": ""}, "Found: global_pool"),
        ({"drop_path_rate": 0.1}, "Found: drop_path_rate"),
        ({"features_only": True}, "Found: features_only"),
    ],
)
def test_timm_refuses_what_would_change_nothing(tmp_path, argument, why):
    backbone = run_of(tmp_path / "run", "resnet_tiny", 16)
    write_form(backbone, "timm", tmp_path)
    import timm

    with pytest.raises(BackboneError, match=why):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True, **argument)
    assert timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0).num_features == 64
    with pytest.raises(BackboneError, match="no architecture, no stem"):
        timm.create_model("reprise_backbone")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet_tiny", "vit_mini", "resnet18", "vit_tiny_patch16_224", "convnext_atto"])
def test_onnxruntime_gives_the_features(tmp_path, name):
    backbone = run_of(tmp_path / "run", name, 32)
    write_form(backbone, "onnx", tmp_path)
    program = (
        "import sys, numpy as np, onnxruntime\n"
        "tried = np.load(sys.argv[1] + '/tried.npz'); path = sys.argv[1] + '/backbone.onnx'\n"
        "session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])\n"
        "(found,) = session.run(None, {'images': tried['images']})\n"
        "assert np.abs(found - tried['want']).max() <= 1e-4\n"
        "kept = ('reprise', 'stages', 'pipeline', 'timm', 'torch')\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in kept]\n"
    )
    try_alone(program, backbone, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "channels"), [("resnet_tiny", 3), ("vit_mini", 1), ("resnet18", 5)])
def test_transformers_loads_our_own_networks(tmp_path, name, channels):
    backbone = run_of(tmp_path / "run", name, 32, channels)
    _, usage = write_form(backbone, "huggingface", tmp_path)
    assert usage.startswith("import reprise.backbones.exports.timm_entry\n")
    images, want = tried(backbone)
    from transformers import AutoModel

    loaded = AutoModel.from_pretrained(str(tmp_path)).eval()
    with torch.inference_mode():
        np.testing.assert_allclose(loaded(images).pooler_output.numpy(), want, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_timm_and_transformers_load_networks_of_timm_alone(tmp_path, name):
    backbone = run_of(tmp_path / "run", name, 64, stem="imagenet")
    folder = tmp_path / "out"
    folder.mkdir()
    write_form(backbone, "huggingface", folder)
    program = (
        "import sys, numpy as np, torch\n"
        "from importlib.util import module_from_spec, spec_from_file_location as spec\n"
        "found = spec('schemas', sys.argv[2]); schemas = module_from_spec(found); found.loader.exec_module(schemas)\n"
        "schemas.ensure_torchvision_imports()\n"
        "import timm; from transformers import AutoModel\n"
        "tried = np.load(sys.argv[1] + '/tried.npz'); images = torch.from_numpy(tried['images'])\n"
        "for run in (timm.create_model('local-dir:' + sys.argv[1] + '/out', pretrained=True).eval(),\n"
        "            lambda x, m=AutoModel.from_pretrained(sys.argv[1] + '/out').eval(): m(x).pooler_output):\n"
        "    with torch.inference_mode(): found = run(images).numpy()\n"
        "    assert np.abs(found - tried['want']).max() <= 1e-4\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('reprise', 'stages', 'pipeline')]\n"
    )
    try_alone(program, backbone, tmp_path)


@pytest.mark.slow
def test_plain_torch_loads_the_program_alone(tmp_path):
    backbone = run_of(tmp_path / "run", "resnet_tiny", 16)
    write_form(backbone, "torch", tmp_path)
    program = (
        "import sys, numpy as np, torch\n"
        "run = torch.export.load(sys.argv[1] + '/backbone.pt2').module(); tried = np.load(sys.argv[1] + '/tried.npz')\n"
        "assert np.abs(run(torch.from_numpy(tried['images'])).detach().numpy() - tried['want']).max() <= 1e-4\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('reprise', 'stages', 'pipeline', 'timm')]\n"
    )
    try_alone(program, backbone, tmp_path)


def test_other_features_are_refused(tmp_path):
    backbone = run_of(tmp_path / "run", "resnet_tiny", 16)
    for run in (lambda x: backbone(x) * 1.001, lambda x: backbone(x)[:, :-1], lambda x: backbone(x) * torch.nan):
        with pytest.raises(BackboneError, match="other features than the backbone"):
            difference(backbone, run)
    assert difference(backbone, backbone) == 0.0


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    backbone = run_of(tmp_path / "run", "resnet_tiny", 16)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=r"pip install \"reprise\[export\]\""):
        FORMS["onnx"](backbone, tmp_path)


def test_images_are_prepared_as_they_are_evaluated(tmp_path):
    run_of(tmp_path / "run", "resnet_tiny", 16)
    backbone = reprise.load_backbone(str(tmp_path / "run"))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 24, 3), np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "a.png")
    images = backbone.prepare([pixels, picture, tmp_path / "a.png", (tmp_path / "a.png").read_bytes()])
    assert images.shape == (4, 3, 16, 16)
    assert (images == images[0]).all()
    scaled = np.asarray(picture.resize((16, 26), Image.Resampling.BILINEAR))[5:21]  # 40 / 24 of 16 is 26.7
    want = (torch.from_numpy(scaled.copy()).permute(2, 0, 1).float() / 255 - 0.4) / 0.2
    torch.testing.assert_close(images[0], want)
    assert backbone(images).shape == (4, backbone.num_features)
    assert backbone.prepare([]).shape == (0, 3, 16, 16)
    for wrong in (pixels.astype(np.float32), np.zeros((8, 8, 5), np.uint8)):
        with pytest.raises(BackboneError):
            backbone.prepare([wrong])


def test_volumes_are_prepared_from_arrays(tmp_path):
    backbone = run_of(tmp_path / "run", "resnet3d_tiny", 16, channels=1)
    volume = np.random.default_rng(0).integers(0, 256, (16, 16, 16), np.uint8)
    prepared = backbone.prepare([volume, volume[..., None]])
    assert prepared.shape == (2, 1, 16, 16, 16)
    torch.testing.assert_close(prepared[1, 0], (torch.from_numpy(volume).float() / 255 - 0.4) / 0.2)
    assert backbone(prepared).shape == (2, backbone.num_features)
    for wrong in (tmp_path / "a.npy", volume.astype(np.float32), volume[0]):
        with pytest.raises(BackboneError, match="a volume has the wrong form"):
            backbone.prepare([wrong])
