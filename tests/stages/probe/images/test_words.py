"""Zero-shot classification restated, and left out where a run has no text side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from reprise.artifacts.embeddings import write_embeddings
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.weights.backbones import write_backbone
from reprise.artifacts.weights.text_models import write_text_model
from reprise.config.errors import ParameterError
from reprise.config.params import parse
from reprise.networks.backbone import build_backbone
from reprise.networks.heads import Projector
from reprise.networks.state import arrays_of
from reprise.networks.text.tokenizer import train_tokenizer
from reprise.networks.text.tower import TextTower
from stages.probe.images.image_data import ImageData
from stages.probe.probes.words.zero_shot import ZeroShot
from tests.workspace import make_shards

RUN, EMBEDDINGS = Path("data/runs/clip/0"), Path("data/embed/clip/0/embeddings.parquet")


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageData:
    """Digits with random features, a backbone with a projector, and a text side, none of them trained."""
    monkeypatch.chdir(tmp_path)
    make_shards(80)
    torch.manual_seed(0)
    backbone, projector = build_backbone("resnet_tiny", 1, 8), Projector([64, 6])
    config = {
        "architecture": "resnet_tiny", "options": {}, "stem": "auto", "input_size": 8, "channels": 1,
        "mean": [0.3], "std": [0.4], "num_features": 64, "heads": {"projector": [64, 6]},
    }  # fmt: skip
    RUN.mkdir(parents=True)
    heads = {f"projector.{name}": value for name, value in arrays_of(projector.state_dict()).items()}
    write_backbone(RUN, arrays_of(backbone.state_dict()), heads, config)
    tokenizer = train_tokenizer([f"a picture of {i}" for i in range(10)] * 2, 300)
    modules = {"tower": TextTower(tokenizer.size, 16, 8, 1, 2), "projection": nn.Linear(8, 6, bias=False)}
    arrays = {f"{name}.{k}": v for name, one in modules.items() for k, v in arrays_of(one.state_dict()).items()}
    sizes = {"fact": "caption", "length": 16, "width": 8, "depth": 1, "heads": 2, "output": 6, "temperature": 0.07}
    write_text_model(RUN, arrays, {"tokenizer": tokenizer.as_json(), **sizes})
    table = read_manifest()
    keys, splits = (np.asarray(table[c].to_pylist(), dtype=object) for c in ("key", "split"))
    EMBEDDINGS.parent.mkdir(parents=True)
    features = np.random.default_rng(0).normal(size=(len(keys), 64)).astype(np.float32)
    write_embeddings(EMBEDDINGS, keys, splits, {"backbone": features})
    return ImageData(EMBEDDINGS, RUN)


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_an_image_gets_the_class_whose_sentences_lie_nearest(images: ImageData) -> None:
    sentences = ["a {}", "a picture of {}"]
    result = ZeroShot(ZeroShot.Params(sentences=sentences)).run(images)
    assert images.text is not None
    classes = []
    for name in images.classes:
        vectors = [images.text.encode([sentence.replace("{}", name)])[0].numpy() for sentence in sentences]
        classes.append(unit(np.mean([unit(v) for v in vectors], axis=0)))
    part, features = images.part("test"), images.features("test")
    shared = images.in_shared_space(features)
    np.testing.assert_allclose(np.linalg.norm(shared, axis=1), 1, atol=1e-6)
    expected = [images.classes[max(range(10), key=lambda c, z=z: float(z @ classes[c]))] for z in shared]
    assert result.predictions is not None
    assert result.predictions["predicted"].to_pylist() == expected
    truth = [images.classes[label] for label in part.labels]
    right = np.mean([a == b for a, b in zip(expected, truth, strict=True)])
    assert result.metrics["top1"].value == pytest.approx(right)
    assert set(result.metrics) == {"top1", "balanced_accuracy", "top1_val"}
    assert result.protocol["classes"] == "10, of which the names of 10 are one token a word"


def test_other_runs_are_left_out_with_a_reason(images: ImageData) -> None:
    (RUN / "text.json").unlink()
    result = ZeroShot(ZeroShot.Params()).run(ImageData(EMBEDDINGS, RUN))
    assert (result.metrics, result.protocol["note"][:8]) == ({}, "not run:")


@pytest.mark.parametrize("sentence", ["a picture", "{} and {}", "{0}"])
def test_a_sentence_without_one_place_for_the_name_is_refused(sentence: str) -> None:
    with pytest.raises(ParameterError, match="one {}, where the class's name goes"):
        parse(ZeroShot.Params, {"sentences": [sentence]}, "probes.words.zero_shot")
