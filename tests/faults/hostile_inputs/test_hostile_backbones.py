"""Folders of backbones from strangers: nothing in them runs, opens another file, or takes more than it brings."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from reprise.artifacts.weights import tensors
from reprise.artifacts.weights.backbones import CONFIG, HEADS, WEIGHTS, BackboneConfig, open_weights, read_config
from reprise.config.errors import BackboneError, ParameterError
from reprise.media.image.transform import CROP_MODES, INTERPOLATIONS
from reprise.networks.assemble import assemble
from reprise.networks.backbone import backbone_named, build_backbone
from reprise.networks.backbones.timm import TimmParams
from reprise.networks.state import arrays_of
from tests.limits import at_most

CONFIGURATION: dict[str, Any] = {
    "architecture": "resnet_tiny",
    "options": {"width": 2},
    "stem": "small",
    "input_size": 16,
    "channels": 3,
    "mean": [0.5] * 3,
    "std": [0.2] * 3,
    "num_features": 8,
    "heads": {},
}
VIT = {"architecture": "vit_mini", "options": {}}


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return arrays_of(build_backbone("resnet_tiny", 3, 16, options={"width": 2}).state_dict())


@pytest.fixture
def folder(tmp_path: Path, weights: dict[str, np.ndarray]) -> Path:
    save_file(weights, tmp_path / WEIGHTS)
    save_file({"x": np.zeros(1, np.float32)}, tmp_path / HEADS)
    (tmp_path / CONFIG).write_text(json.dumps(CONFIGURATION), encoding="utf-8")
    return tmp_path


def load(folder: Path) -> torch.nn.Module:
    """The folder as embed, probes and extractors read it, at no more than a few hundred megabytes and seconds."""
    with at_most(megabytes=1500, seconds=20):
        return assemble(read_config(folder), *open_weights(folder), where=str(folder))


def refusal(folder: Path) -> str:
    """The sentence with which a folder is refused."""
    with pytest.raises(BackboneError) as told:
        load(folder)
    sentence = str(told.value)
    assert "\n" not in sentence
    assert len(sentence) < 5000
    assert str(folder) in sentence
    return sentence


def test_a_sound_folder_is_read(folder: Path) -> None:
    assert load(folder)(torch.zeros(1, 3, 16, 16))["backbone"].shape == (1, 8)


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "a pickle": ({"options": {"checkpoint_path": "evil.pth"}}, "options.checkpoint_path: unknown parameter"),
    "pretrained": ({"options": {"pretrained": True}}, "options.pretrained: unknown"),
    "another model": ({"options": {"model_name": "resnet50"}}, "options.model_name: unknown"),
    "a file of weights": ({"options": {"pretrained_cfg": {"file": "evil.pth"}}}, "an option should be a number"),
    "an overlay": ({"options": {"pretrained_cfg_overlay": ["a"]}}, "unknown parameter"),
    "a cache": ({"options": {"cache_dir": "here"}}, "options.cache_dir: unknown"),
    "code": ({"options": {"act_layer": "os.system"}}, "options.act_layer: unknown"),
    "a folder": ({"architecture": "local-dir:evil"}, "letters, digits, underscores and dots"),
    "a repository": ({"architecture": "hf-hub:evil/x"}, "letters, digits, underscores and dots"),
    "a path": ({"architecture": "../../x"}, "letters, digits, underscores and dots"),
    "dots": ({"architecture": "resnet10t...x"}, "unknown backbone"),
    "a long name": ({"architecture": "r" * 100_000}, "at most 100 characters"),
    "a number for a name": ({"architecture": 5}, "architecture: input should be a valid string"),
    "escapes": ({"architecture": "\x1b]0;x\x07\x1b[2Jresnet"}, r"\\x1b]0;x\\x07"),
    "nobody's name": ({"architecture": "resnet_tinny", "options": {}}, "unknown backbone"),
    "nobody's tag": ({"architecture": "resnet10t.nobody", "options": {}}, "unknown backbone"),
    "timm itself": ({"architecture": "timm", "options": {}}, "unknown backbone"),
    "a huge image": ({"input_size": 10**7}, "less than or equal to 2048"),
    "a size of words": ({"input_size": "16"}, "input_size: input should be a valid integer"),
    "no size": ({"input_size": 0}, "input_size: input should be greater"),
    "a list of options": ({"options": ["a"]}, "options: input should be a valid dictionary"),
    "many options": ({"options": {f"o{i}": 1 for i in range(1000)}}, "at most 64 items"),
    "no mean": ({"mean": None}, "mean: input should be a valid list"),
    "a long mean": ({"mean": [0.5] * 9}, "mean: there should be one value for each channel"),
    "no deviation": ({"std": [0, 0, 0]}, r"std\[0\]: input should be greater"),
    "a deviation of words": ({"std": ["a", "b", "c"]}, r"std\[0\]: input should be a valid number"),
    "no heads": ({"heads": None}, "heads: input should be a valid dictionary"),
    "heads of a word": ({"heads": {"projector": "abc"}}, "heads.projector: input should be a valid list"),
    "a huge head": ({"heads": {"projector": [8, 10**9, 10**9]}}, "less than or equal to 4194304"),
    "a large head": ({"heads": {"projector": [8, 10**6, 10**6]}}, "projector.hidden.0.0.weight is missing"),
    "a head of one layer": ({"heads": {"projector": [8]}}, "at least 2 items"),
    "channels that are no number": ({"channels": 3.0}, "channels: input should be a whole number"),
    "channels that are a switch": ({"channels": True}, "channels: input should be a whole number"),
    "no channels": ({"channels": 0}, "channels: input should be greater than or equal to 1"),
    "two channels": ({"channels": 2}, "mean: there should be one value for each channel"),
    "a thousand channels": ({"channels": 1000}, "channels: input should be less than or equal to 64"),
    "other channels": ({"channels": 1, "mean": [0.5], "std": [0.2]}, "conv1.weight is"),
    "a head for others": ({"heads": {"projector": [9, 4]}}, "projector"),
    "other features": ({"num_features": 4_000_000}, "features of 8 numbers, and num_features 4000000"),
    "a stem of words": ({"stem": "os.system"}, "stem: input should be 'auto', 'small' or 'imagenet'"),
    "a wide transformer": (VIT | {"options": {"width": 10**6, "depth": 10**6}}, "options.width: input should be less"),
    "a large transformer": (VIT | {"options": {"width": 65535, "depth": 50}}, "blocks.0.attn.proj.bias is missing"),
    "patches that do not fill": (VIT | {"options": {"patch_size": 5}}, "patches must fill the image"),
    "a large dictionary": (
        {"architecture": "patch_dictionary", "options": {"patches": 10**6, "patch_size": 256}},
        "backbone.bn1.bias is unknown",
    ),
    "a hamming window": ({"interpolation": "hamming"}, "interpolation: input should be"),
    "a share of nothing": ({"crop_pct": 1e-300}, "crop_pct: input should be greater"),
    "many levels": ({"views": json.loads("[" * 40 + "]" * 40)}, "more than 32 levels"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_configuration_is_a_sentence(folder: Path, name: str) -> None:
    change, words = HOSTILE[name]
    (folder / CONFIG).write_text(json.dumps(CONFIGURATION | change), encoding="utf-8")
    before = sorted(path.name for path in folder.iterdir())
    assert re.search(words, refusal(folder))
    assert sorted(path.name for path in folder.iterdir()) == before


TEXTS: dict[str, tuple[str, str]] = {
    "NaN": ('{"num_features": NaN}', "NaN, which JSON does not have"),
    "infinity": ('{"mean": [1e999]}', "the number 1e999, which is too large"),
    "digits": ('{"mean": ' + "9" * 5000 + "}", "cannot be read"),
    "thousands of levels": ("[" * 100_000, "cannot be read"),
    "a list": ("[]", "Found: a list"),
    "nothing": ("", "cannot be read"),
    "another encoding": ("\udcff", "cannot be read"),
    "half of a letter": (
        json.dumps(CONFIGURATION | {"architecture": "\ud800"}),
        "architecture: input should be a valid",
    ),
    "megabytes": ('{"x": "' + "a" * (2 << 20) + '"}', r"2097161 bytes"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_configuration_that_is_no_configuration_is_a_sentence(folder: Path, name: str) -> None:
    text, words = TEXTS[name]
    (folder / CONFIG).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert re.search(words, refusal(folder))


def header(entries: object, data: int = 0) -> bytes:
    head = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(head)) + head + bytes(data)


def entry(dtype: object = "F32", shape: object = (1,), place: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": place}


FILES: dict[str, tuple[bytes, str]] = {
    "a pickle": (pickle.dumps({"a": 1}), "cannot be read"),
    "a length of 2^60": (struct.pack("<Q", 1 << 60) + b"{}", "a header of 1152921504606846976 bytes"),
    "a header of 16 MiB": (header(b" " * (16 << 20)), "the limit is 8388608"),
    "no header": (b"1234567", "ends too early"),
    "levels": (header(b"[" * 1_000_000), "cannot be read"),
    "a list": (header([1]), "not an object"),
    "the same twice": (header(b'{"a":{},"a":{}}'), "names one tensor twice"),
    "an entry of words": (header({"a": "b"}), "in another form"),
    "a type of its own": (header({"a": entry("O8")}, 4), "a type other than"),
    "brain floats": (header({"a": entry("BF16", (2,))}, 4), "a type other than"),
    "a type that is a list": (header({"a": entry(["F32"])}, 4), "a type other than"),
    "a shape of words": (header({"a": entry(shape="x")}, 4), "not a short list of whole numbers"),
    "a shape below zero": (header({"a": entry(shape=(-1,))}, 4), "not a short list of whole numbers"),
    "a thousand axes": (header({"a": entry(shape=(1,) * 1000)}, 4), "not a short list of whole numbers"),
    "an overflow": (header({"a": entry(shape=(1 << 62, 4))}, 4), "not a short list of whole numbers"),
    "a shape beyond its bytes": (header({"a": entry(shape=(2,))}, 4), "does not fit its number of bytes"),
    "beyond the file": (
        header({"a": entry(shape=(2,), place=(0, 8))}, 4),
        "describes 8 bytes of data, and there are 4",
    ),
    "overlapping": (header({"a": entry(), "b": entry()}, 4), "overlap or leave a gap"),
    "a gap": (header({"a": entry(), "b": entry(place=(8, 12))}, 12), "overlap or leave a gap"),
    "more than it says": (header({"a": entry()}, 8), "describes 4 bytes of data, and there are 8"),
    "a name of a megabyte": (header({"a\x1b" * (1 << 19): entry("X")}, 4), r"a\\x1b"),
}


@pytest.mark.parametrize("file", [WEIGHTS, HEADS])
@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_of_weights_is_a_sentence(folder: Path, name: str, file: str) -> None:
    data, words = FILES[name]
    (folder / file).write_bytes(data)
    assert re.search(words, refusal(folder))


def changed(weights: dict[str, np.ndarray], **changes: np.ndarray | None) -> dict[str, np.ndarray]:
    found = weights | {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in found.items() if value is not None}


NOT_FITTING: dict[str, tuple[Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]], str]] = {
    "not a number": (lambda w: changed(w, bn1__weight=w["bn1.weight"] * np.nan), "bn1.weight are not finite"),
    "too large": (lambda w: changed(w, bn1__weight=w["bn1.weight"].astype(np.float64) + 1e300), "cannot hold"),
    "words of bits": (lambda w: changed(w, bn1__weight=w["bn1.weight"].astype(np.int32)), "has the type I32"),
    "one is missing": (lambda w: changed(w, bn1__weight=None), "bn1.weight is missing"),
    "one is unknown": (lambda w: changed(w, bn9__weight=w["bn1.weight"]), "bn9.weight is unknown"),
    "a shape of zeros": (lambda w: changed(w, bn1__weight=np.zeros((0, 5), np.float32)), r"is \(0, 5\), not \(2,\)"),
}


@pytest.mark.parametrize("name", NOT_FITTING)
def test_weights_that_do_not_fit_are_a_sentence(folder: Path, weights: dict[str, np.ndarray], name: str) -> None:
    change, words = NOT_FITTING[name]
    save_file(change(weights), folder / WEIGHTS)
    assert re.search(words, refusal(folder))


def test_counters_that_old_files_lack_or_write_as_vectors_are_none_of_it(folder: Path, weights) -> None:
    counters = {name: value.reshape(1) for name, value in weights.items() if name.endswith("num_batches_tracked")}
    save_file(weights | counters, folder / WEIGHTS)
    load(folder)
    save_file({name: value for name, value in weights.items() if name not in counters}, folder / WEIGHTS)
    load(folder)


def test_a_sparse_file_of_the_right_shapes_takes_no_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a terabyte of nothing costs its author no disk."""
    options = {"patches": 10**6, "patch_size": 100}
    (folder / CONFIG).write_text(
        json.dumps(CONFIGURATION | {"architecture": "patch_dictionary", "options": options, "num_features": 4 * 10**6}),
        encoding="utf-8",
    )
    with torch.device("meta"):
        state = build_backbone("patch_dictionary", 3, 16, options=options).state_dict()
    entries, at = {}, 0
    for name, tensor in state.items():
        end = at + 4 * tensor.numel()
        entries[name], at = entry(shape=tuple(tensor.shape), place=(at, end)), end
    with (folder / WEIGHTS).open("wb") as file:
        file.write(header(entries))
        file.truncate(file.tell() + at)
    assert at > 100 << 30
    assert "no network has more than" in refusal(folder)
    monkeypatch.setattr(tensors, "_LARGEST_FILE", 1 << 40)
    (folder / CONFIG).write_text(
        json.dumps(CONFIGURATION | {"architecture": "patch_dictionary", "options": {"patches": 8, "patch_size": 100}}),
        encoding="utf-8",
    )
    assert "centroids is (1000000, 30000), not (8, 30000)" in refusal(folder)
    with pytest.raises(BackboneError, match="bytes of memory for 3 copies"):
        tensors.TensorFile.open(folder / WEIGHTS, "Fix it.").read()


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS, HEADS])
@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "missing", "link to nothing"])
def test_what_is_no_file_is_a_sentence_and_never_waits(folder: Path, file: str, kind: str) -> None:
    path = folder / file
    path.unlink()
    make: dict[str, Callable[[], object]] = {
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "device": lambda: path.symlink_to("/dev/zero"),
        "missing": lambda: None,
        "link to nothing": lambda: path.symlink_to("nothing"),
    }
    make[kind]()
    assert "cannot be read" in refusal(folder)


def test_a_file_that_changes_between_header_and_data_is_refused(folder: Path, weights) -> None:
    opened = tensors.TensorFile.open(folder / WEIGHTS, "Fix it.")
    save_file({"x": np.zeros(10**6, np.float32)}, folder / WEIGHTS)
    with pytest.raises(BackboneError, match="another header than a moment ago"):
        opened.read()


def test_no_name_of_a_backbone_is_a_path_or_an_address() -> None:
    for name in ("hf-hub:a/b", "local-dir:x", "../x", "a/b", "resnet10t/../x", "", ".", "a..b", "x" * 101, "é"):
        with pytest.raises(BackboneError, match="unknown backbone"):
            backbone_named(name)


def test_options_of_timm_name_neither_files_nor_weights_nor_code() -> None:
    forbidden = ("file", "dir", "url", "cfg", "pretrained", "checkpoint", "layer", "name", "fn", "script", "hub")
    assert not [name for name in TimmParams.model_fields if any(word in name for word in forbidden)]
    with pytest.raises(BackboneError, match="takes other options.*Found: embed_dim"):
        build_backbone("resnet10t", 3, 32, options={"embed_dim": 8})
    with pytest.raises(ParameterError, match="act_layer: unknown"):
        build_backbone("resnet10t", 3, 32, options={"act_layer": "os.system"})


def test_what_timm_cannot_build_is_a_sentence() -> None:
    with pytest.raises(BackboneError, match="timm cannot build this network.*vit_tiny_patch16_224"):
        build_backbone("vit_tiny_patch16_224", 3, 32, options={"embed_dim": 7, "num_heads": 3})


def test_the_configuration_knows_all_ways_of_preparing_images() -> None:
    fields = BackboneConfig.model_fields
    assert set(fields["interpolation"].annotation.__args__) == set(INTERPOLATIONS)
    assert set(fields["crop_mode"].annotation.__args__) == set(CROP_MODES)


def test_building_without_memory_leaves_the_random_numbers_alone(folder: Path) -> None:
    torch.manual_seed(3)
    build_backbone("resnet_tiny", 3, 16, options={"width": 2})
    once = torch.rand(1)
    torch.manual_seed(3)
    load(folder)
    assert torch.equal(torch.rand(1), once)  # the network itself is built once


def test_a_plug_in_that_looks_at_its_tensors_while_it_is_built_is_still_read(
    folder: Path, weights, monkeypatch
) -> None:
    from reprise.networks.backbones.resnet_tiny import ResNetTiny

    plain = ResNetTiny.build

    def build(self: ResNetTiny, channels: int, size: int, stem: str) -> torch.nn.Module:
        assert len(torch.linspace(0, 1, 3).tolist()) == 3  # a tensor on the meta device has no values
        return plain(self, channels, size, stem)

    monkeypatch.setattr(ResNetTiny, "build", build)
    load(folder)
    save_file(changed(weights, bn1__weight=None), folder / WEIGHTS)
    assert "bn1.weight is missing" in refusal(folder)


@pytest.mark.slow
def test_the_command_ends_with_a_sentence_in_a_child_with_limits(
    folder: Path, tmp_path: Path, repository: Path
) -> None:
    """A checkpoint that would run code, as `reprise probe --backbone FOLDER` gets it."""

    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.system, (f"touch {tmp_path / 'harmed'}",))

    torch.save({"state_dict": {}, "x": Harm()}, tmp_path / "evil.pth")
    for options in ({"checkpoint_path": str(tmp_path / "evil.pth")}, {"cache_dir": str(tmp_path / "cache")}):
        change = {"architecture": "resnet10t", "options": options}
        (folder / CONFIG).write_text(json.dumps(CONFIGURATION | change), encoding="utf-8")
        words = f"ulimit -v 12000000; ulimit -t 60; exec {sys.executable} -m stages.embed.adopt"
        done = subprocess.run(
            ["bash", "-c", f"{words} --backbone {folder} --out {tmp_path / 'out'}"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(repository)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith("error: the configuration has options that resnet10t does not take")
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "harmed").exists()
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "out").exists()
