"""Foreign weights fit whole or not at all: prefixes of releases, other grids, other types, torch files without code."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from reprise.artifacts.weights.tensors import TensorFile
from reprise.config.errors import BackboneError
from reprise.networks.backbone import build_backbone
from reprise.networks.state import arrays_of
from reprise.networks.torchvision_schemas import ensure_torchvision_imports
from reprise.networks.weights.fit import best_prefix, fit_weights, interpolate_positions
from stages.models.weight_files import read_weight_file


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(1)
    return build_backbone("resnet_tiny", 3, 16)


def fit(network: torch.nn.Module, arrays: dict[str, np.ndarray]):
    return fit_weights(network.state_dict(), arrays, "file", "Name another file.")


# What releases put before the names, and a second branch that must stay outside.
RELEASES = {
    "": "",
    "module.": "",
    "backbone.": "head.",
    "module.encoder_q.": "module.encoder_k.",
    "module.base_encoder.": "module.momentum_encoder.",
    "teacher.backbone.": "student.backbone.",
    "model.": "model_ema.",
    "module.student.module.backbone.": "module.teacher_head.",
    "encoder.": "decoder.",
    "teacher_backbone.": "student_backbone.",
    "student_backbone.": "student_head.",
    "online_encoder.net.": "target_encoder.net.",
    "network.": "projector.",
    "resnet.": "classifier.",
    "model._backbone.": "model._head.",
}


@pytest.mark.parametrize(("prefix", "other"), RELEASES.items())
def test_prefixes_of_releases_are_cut_and_accounted_for(network, prefix: str, other: str) -> None:
    weights = arrays_of(network.state_dict())
    file = {prefix + name: value for name, value in weights.items()}
    extra = {other + name: value + 1 for name, value in weights.items()} if other else {}
    fitted = fit(network, {**extra, **file, "queue": np.zeros(3, np.float32)})
    assert fitted.prefix == prefix
    assert all(np.array_equal(fitted.arrays[name], value) for name, value in weights.items())
    assert set(fitted.used) == set(weights)
    assert set(fitted.left_out) == {*extra, "queue"}
    said = " ".join(fitted.sentences())
    assert ("cut from all names" in said) == bool(prefix)
    assert f"{1 + len(extra)} tensor" in said


def test_what_is_missing_or_of_another_shape_is_refused_by_name(network) -> None:
    weights = arrays_of(network.state_dict())
    del weights["conv1.weight"]
    weights["layer1.0.conv1.weight"] = np.zeros((1, 2, 3, 3), np.float32)
    weights["extra.bias"] = np.zeros(2, np.float32)
    with pytest.raises(BackboneError) as told:
        fit(network, weights)
    for words in ("conv1.weight is missing", "layer1.0.conv1.weight is (1, 2, 3, 3), not (16, 16, 3, 3)", "extra.bias"):
        assert words in str(told.value)


def test_only_counters_are_filled_in(network) -> None:
    weights = {n: v for n, v in arrays_of(network.state_dict()).items() if "num_batches" not in n}
    fitted = fit(network, weights)
    assert {name.rpartition(".")[2] for name in fitted.filled} == {"num_batches_tracked"}
    assert set(fitted.filled) == set(network.state_dict()) - set(weights)


def test_positions_of_another_grid_are_interpolated_and_it_is_said() -> None:
    large, small = build_backbone("vit_mini", 3, 32), build_backbone("vit_mini", 3, 16)
    weights = arrays_of(large.state_dict())
    weights["pos_embed"] = np.random.default_rng(0).normal(size=weights["pos_embed"].shape).astype(np.float32)
    fitted = fit(small, weights)
    assert list(fitted.interpolated) == ["pos_embed"]
    assert "interpolated from (1, 65, 96) to (1, 17, 96)" in " ".join(fitted.sentences())
    assert np.array_equal(fitted.arrays["pos_embed"][:, 0], weights["pos_embed"][:, 0])  # the class token's stays
    ensure_torchvision_imports()  # which timm imports
    resampled = pytest.importorskip("timm.layers").resample_abs_pos_embed
    theirs = resampled(torch.from_numpy(weights["pos_embed"]), [4, 4], num_prefix_tokens=1)
    np.testing.assert_allclose(fitted.arrays["pos_embed"], theirs.numpy(), atol=1e-5)
    assert interpolate_positions(weights["pos_embed"], (1, 17, 95), 1) is None  # another width is no other grid


def test_brain_floats_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.randn(3, 4).bfloat16(), "a.count": torch.arange(3), "a.bias": torch.randn(2).half()}
    save_file(tensors, tmp_path / "half.safetensors")
    with pytest.raises(BackboneError, match="a type other than"):
        TensorFile.open(tmp_path / "half.safetensors", "fix")
    file = read_weight_file(tmp_path / "half.safetensors")
    assert file.converted == {"BF16": 1, "F16": 1}
    assert {value.dtype.str for name, value in file.arrays.items() if name != "a.count"} == {"<f4"}
    np.testing.assert_array_equal(file.arrays["a.weight"], tensors["a.weight"].float().numpy())
    np.testing.assert_array_equal(file.arrays["a.count"], np.arange(3))
    torch.save(tensors, tmp_path / "half.pth")
    np.testing.assert_array_equal(read_weight_file(tmp_path / "half.pth").arrays["a.weight"], file.arrays["a.weight"])


def test_the_entry_of_a_checkpoint_is_chosen_and_said(tmp_path: Path) -> None:
    branches = {
        name: {"backbone.a.weight": torch.full((2,), value)} for name, value in (("student", 1.0), ("teacher", 2.0))
    }
    torch.save({"epoch": 3, "optimizer": {"state.a": torch.zeros(2)}, **branches}, tmp_path / "dino.pth")
    file = read_weight_file(tmp_path / "dino.pth")
    assert (file.part, file.other_parts) == ("teacher", ("student",))
    assert float(file.arrays["backbone.a.weight"][0]) == 2.0
    assert read_weight_file(tmp_path / "dino.pth", "student").part == "student"
    with pytest.raises(BackboneError, match=r"holds no such weights(.|\n)*student\n  teacher"):
        read_weight_file(tmp_path / "dino.pth", "predictor")


class Harm:
    def __reduce__(self):
        return (sys.exit, (99,))


@pytest.mark.parametrize("content", ["pickle", "inside", "damaged", "plain", "not finite"])
def test_torch_files_never_run_code(tmp_path: Path, content: str) -> None:
    path = tmp_path / "model.pth"
    if content == "pickle":
        path.write_bytes(pickle.dumps(Harm()))
    elif content == "damaged":
        torch.save({"a.b": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:900])
    else:
        inside = {"inside": Harm(), "plain": 3, "not finite": torch.tensor([1.0, float("nan")])}[content]
        torch.save({"a.b": torch.zeros(2), "c": inside} if content == "inside" else {"a.b": inside}, path)
    with pytest.raises(BackboneError, match="without running code|holds no weights|not finite"):
        read_weight_file(path)


def test_a_chain_that_names_nothing_of_the_network_is_not_chosen() -> None:
    assert best_prefix({"module.a": 0, "module.model.b": 0}, {"a": 0}) == "module."
    assert best_prefix({"x": 0}, {"a": 0}) == ""
