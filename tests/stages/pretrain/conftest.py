"""A workspace of 160 digits with an empty and a mined label set, and the parameters of a tiny run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from reprise.artifacts.label_sets import SCHEMA, write_pseudo_labels
from reprise.artifacts.shards import Shards
from reprise.config.params import ImageParams
from reprise.training.params import TrainParams
from stages.pretrain.views.settings import ViewSettings
from tests.workspace import make_shards

IMAGE = ImageParams(size=16, channels=3)
TINY = TrainParams(
    backbone="resnet_tiny",
    epochs=3,
    batch_size=16,
    optimizer="sgd",
    learning_rate=0.2,
    weight_decay=1e-4,
    warmup_epochs=1,
    device="cpu",
    checkpoint_steps=2,
)
PLAIN = ViewSettings(  # crops only; tests `replace` what they look at
    size=16,
    channels=3,
    crop_scale_min=0.2,
    flip=False,
    jitter=0,
    grey=0,
    blur=0,
    solarize=0,
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
)


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder becomes a workspace with shards and the label sets `none` and `mined` of seed 0."""
    monkeypatch.chdir(tmp_path)
    make_shards()
    shards = Shards.open()
    keys = shards.keys[shards.rows("train")]
    for name, clusters in {"none": np.full(len(keys), -1), "mined": np.arange(len(keys)) % 10}.items():
        write_label_set(name, keys, clusters)
    return tmp_path


def write_label_set(
    name: str, keys: np.ndarray, clusters: np.ndarray, seed: int = 0, confidences: list[float | None] | None = None
) -> None:
    """data/mine/<name>/<seed>/pseudo_labels.parquet; -1 is no label."""
    sure = confidences or [None] * len(keys)
    rows = [
        {"key": k, "cluster": None if c < 0 else int(c), "distance": None, "confidence": s, "round": 0}
        for k, c, s in zip(keys, clusters, sure, strict=True)
    ]
    write_pseudo_labels(
        Path("data/mine") / name / str(seed) / "pseudo_labels.parquet", pa.Table.from_pylist(rows, SCHEMA)
    )
