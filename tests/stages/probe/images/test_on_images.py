"""Probes that train on images: they learn, they choose on val, and the backbone on disk stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from ruamel.yaml import YAML
from sklearn.linear_model import LogisticRegression

from reprise.artifacts.embeddings import write_embeddings
from reprise.artifacts.layout import MANIFEST
from reprise.artifacts.manifest import MANIFEST_SCHEMA, read_manifest, write_manifest
from reprise.artifacts.results import read_json
from reprise.artifacts.weights.backbones import write_backbone
from reprise.config.params import read_yaml
from reprise.networks.backbone import build_backbone
from reprise.networks.state import arrays_of
from stages.probe import on_images
from stages.probe.data import ProbeData
from stages.probe.images import image_data
from stages.probe.images.image_data import ImageData
from stages.probe.probes.dense.correspondence import Correspondence
from stages.probe.probes.finetune.finetune import Finetune
from stages.probe.probes.finetune.moment import Moment
from tests.workspace import make_shards

RUN, EMBEDDINGS = Path("data/runs/simclr/0"), Path("data/embed/simclr/0/embeddings.parquet")
QUICK = {
    Finetune: {"epochs": 8, "few_epochs": 1, "percents": [50.0], "rates": [0.1, 1e-9], "batch_size": 16},
    Moment: {"epochs": 8, "heads": 2, "width": 16, "rates": [0.01, 1e-9], "batch_size": 16},
}
BOTH = pytest.mark.parametrize("kind", [Finetune, Moment])


def write_run(architecture: str, width: int) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(architecture, 1, 8)
    config = {
        "architecture": architecture, "options": {}, "stem": "auto", "input_size": 8, "channels": 1,
        "mean": [0.3], "std": [0.4], "num_features": width, "heads": {},
    }  # fmt: skip
    RUN.mkdir(parents=True, exist_ok=True)
    write_backbone(RUN, arrays_of(backbone.state_dict()), {}, config)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageData:
    monkeypatch.chdir(tmp_path)
    make_shards(240)
    write_run("resnet_tiny", 64)
    table = read_manifest()
    keys, splits = (np.asarray(table[c].to_pylist(), dtype=object) for c in ("key", "split"))
    EMBEDDINGS.parent.mkdir(parents=True)
    features = np.random.default_rng(0).normal(size=(len(keys), 4)).astype(np.float32)
    write_embeddings(EMBEDDINGS, keys, splits, {"backbone": features})
    return ImageData(EMBEDDINGS, RUN)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@BOTH
def test_it_learns_and_leaves_the_backbone_as_it_was(images: ImageData, kind) -> None:
    before = contents(RUN)
    result = kind(kind.Params(**QUICK[kind])).run(images)
    assert contents(RUN) == before
    assert result.metrics["top1"].value > 0.4  # ten classes, 120 images
    assert result.metrics["top1_val"].n == 60
    how = result.protocol["learning rate at 100 %" if kind is Finetune else "learning rate"]
    assert how == f"{QUICK[kind]['rates'][0]:g}, chosen on 60 val images"  # the other one hardly moves
    assert np.mean(result.predictions["correct"].to_pylist()) == pytest.approx(result.metrics["top1"].value)
    if kind is Finetune:
        assert result.protocol["labels at 50 %"] in {f"{n} training images" for n in range(56, 66)}
        assert "top1_50_percent" in result.metrics
    else:
        frozen, other = images.network().state_dict(), images.network().state_dict()
        assert all(torch.equal(frozen[name], other[name]) for name in frozen)


@BOTH
def test_test_labels_change_no_prediction_and_the_same_seed_repeats(images: ImageData, kind) -> None:
    params = kind.Params(**(QUICK[kind] | {"epochs": 2, "rates": [0.05]}))
    first, again = (kind(params).run(images) for _ in range(2))
    assert first.predictions.equals(again.predictions)
    table = read_manifest()
    rows = table.to_pylist()
    for row in rows:
        if row["split"] == "test":
            row["label"] = str((int(row["label"]) + 1) % 10)
    write_manifest(MANIFEST, pa.Table.from_pylist(rows, MANIFEST_SCHEMA))
    shuffled = kind(params).run(ImageData(EMBEDDINGS, RUN))
    assert shuffled.predictions["predicted"].equals(first.predictions["predicted"])
    assert shuffled.metrics["top1_val"] == first.metrics["top1_val"]


@BOTH
def test_few_val_labels_choose_nothing(images: ImageData, kind) -> None:
    rows = read_manifest().to_pylist()
    for row in rows:
        row["label"] = row["label"] if row["split"] != "val" else None
    write_manifest(MANIFEST, pa.Table.from_pylist(rows, MANIFEST_SCHEMA))
    params = kind.Params(**(QUICK[kind] | {"epochs": 1}))
    result = kind(params).run(ImageData(EMBEDDINGS, RUN))
    assert any("not chosen (0 labelled val images are too few)" in text for text in result.protocol.values())
    assert "top1_val" not in result.metrics


def test_pixels_are_what_embedding_sees(images: ImageData) -> None:
    from PIL import Image

    keys = images.part("test").keys[:3]
    expected = [(np.asarray(Image.open(f"images/{key}.png")) / 255 - 0.3) / 0.4 for key in keys]
    assert images.pixels(keys)[:, 0].numpy() == pytest.approx(np.stack(expected), abs=1e-6)


def test_the_digest_sees_backbone_and_embeddings(images: ImageData) -> None:
    first = images.digest(True)
    assert ImageData(EMBEDDINGS, RUN).digest(True) == first != ProbeData(EMBEDDINGS).digest(True)
    write_run("patch_dictionary", 1024)
    assert ImageData(EMBEDDINGS, RUN).digest(True) != first


def test_an_architecture_without_local_features_is_said(images: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_data, "places_of", lambda *arguments: None)
    for probe in (Moment(Moment.Params()), Correspondence(Correspondence.Params())):
        found = probe.run(ImageData(EMBEDDINGS, RUN))
        assert found.protocol["note"] == "not run: resnet_tiny has no local features"


def test_moments_tell_what_means_cannot() -> None:
    """Both classes have mean zero; in one of them the first two channels agree, in the other they oppose."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 600)
    x = rng.normal(size=(600, 30, 6))
    x[:, :, 1] = np.where(y == 1, 1, -1)[:, None] * x[:, :, 0] + 0.3 * x[:, :, 1]
    x -= x.mean(axis=1, keepdims=True)
    tokens = torch.from_numpy(x.astype(np.float32))
    probe = Moment(Moment.Params(heads=2, width=16, epochs=15, batch_size=50))
    head = probe.train_head(lambda rows: tokens[:400][rows], y[:400], 2, 3e-3)
    with torch.no_grad():
        answers = head(tokens[400:]).argmax(1).numpy()
    assert (answers == y[400:]).mean() > 0.9
    pooled = x.mean(axis=1) + 1e-3 * rng.normal(size=(600, 6))
    assert LogisticRegression().fit(pooled[:400], y[:400]).score(pooled[400:], y[400:]) < 0.6


def test_the_command(images: ImageData, like_a_stage: None) -> None:
    repository = Path(__file__).parents[4]
    raw = read_yaml(repository / "params.yaml")
    raw["checks"] = [{"run": "simclr", "seed": 0, "group": "finetune"}]
    raw["image_probes"]["finetune"] = {
        "finetune": {"epochs": 1, "percents": [], "rates": [0.05]},
        "moment": {"epochs": 1, "rates": [0.01]},
    }
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(raw, file)
    on_images.main(["--run", "simclr", "--seed", "0", "--group", "finetune"])
    metrics = read_json("data/probe/simclr/0/images/finetune/metrics.json")
    assert set(metrics) == {"finetune", "moment"}
    assert metrics["finetune"]["top1"]["n"] == 60
    assert Path(".reprise/provenance/probe/simclr/0/images/finetune.json").is_file()
