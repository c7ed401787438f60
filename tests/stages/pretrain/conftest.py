"""A workspace of 160 digits with an empty and a mined label set, and the parameters of a tiny run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from reprise.artifacts.labels.label_sets import GIVEN, SCHEMA, write_pseudo_labels
from reprise.artifacts.labels.pairs import FILE as PAIRS_FILE
from reprise.artifacts.labels.pairs import write_pairs
from reprise.artifacts.shards import Shards
from reprise.artifacts.weights.backbones import write_backbone
from reprise.config.params import ImageParams
from reprise.config.tables import RunRow
from reprise.networks.backbone import build_backbone
from reprise.networks.state import arrays_of
from reprise.storage.work_folder import file_digest
from reprise.training.params import TrainParams
from stages.models import starts
from stages.pretrain.views import batched, per_image
from stages.pretrain.views.settings import ViewSettings
from stages.pretrain.views.short import standard_changes
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


@dataclass(frozen=True)
class Short:
    """A view by short settings."""

    size: int
    channels: int
    crop_scale_min: float
    flip: bool
    jitter: float
    grey: float
    blur: float | tuple[float, ...]
    solarize: float | tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_scale_max: float = 1.0
    saturation: float | None = None
    hue: float | None = None
    crop_aspect: float = 4 / 3

    @property
    def settings(self) -> ViewSettings:
        """The list of changes that these stand for."""
        numbers = asdict(self)
        shared = {name: numbers.pop(name) for name in ("size", "channels", "mean", "std")}
        return ViewSettings(**shared, changes=standard_changes(numbers))


PLAIN = Short(  # crops only; tests `replace` what they look at
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
# Images 0 to 29 of the 80 in a ring, whose pairs weigh more and more, and 30 with each of 31 to 33; others have none.
PAIRS = [(i, (i + 1) % 30, (i + 1) / 30) for i in range(30)] + [(30, other, 0.5) for other in range(31, 34)]


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder becomes a workspace with shards and the label sets `none`, `mined` and `paired` of seed 0."""
    monkeypatch.chdir(tmp_path)
    make_shards()
    shards = Shards.open()
    keys = shards.keys[shards.rows("train")]
    for name, clusters in {"none": np.full(len(keys), -1), "mined": np.arange(len(keys)) % 10}.items():
        write_label_set(name, keys, clusters)
    write_label_set("paired", keys, np.full(len(keys), -1), pairs=PAIRS)
    write_label_set("partly", keys, np.arange(len(keys)) % 10, given=np.arange(len(keys)) % 3 == 0)
    return tmp_path


def write_label_set(
    name: str,
    keys: np.ndarray,
    clusters: np.ndarray,
    seed: int = 0,
    confidences: list[float | None] | None = None,
    pairs: list[tuple[int, int, float]] | None = None,
    given: np.ndarray | None = None,
) -> None:
    """data/mine/<name>/<seed>/pseudo_labels.parquet, and pairs beside it; a cluster of -1 is no label."""
    folder, digest = Path("data/mine") / name / str(seed), None
    if pairs is not None:
        first, second, weights = zip(*pairs, strict=True)
        columns = {"first": keys[list(first)], "second": keys[list(second)], "weight": np.array(weights, np.float32)}
        rest = {"kind": ["mutual"] * len(pairs), "hops": np.ones(len(pairs), np.int32)}
        write_pairs(folder / PAIRS_FILE, pa.table({**columns, **rest}))
        digest = file_digest(folder / PAIRS_FILE)
    sure = confidences or [None] * len(keys)
    rows = [
        {"key": k, "cluster": None if c < 0 else int(c), "distance": None, "confidence": s, "round": 0}
        for k, c, s in zip(keys, clusters, sure, strict=True)
    ]
    table = pa.Table.from_pylist(rows, SCHEMA)
    table = table if given is None else table.append_column(GIVEN, pa.array(given.tolist()))
    write_pseudo_labels(folder / "pseudo_labels.parquet", table, digest)


def write_start(
    run: str, architecture: str = "resnet_tiny", size: int = 16, **row: str | None
) -> dict[str, np.ndarray]:
    """data/starts/<run> with the weights that torch's seed 7 gives, which are returned; `row` names what uses them."""
    torch.manual_seed(7)
    network = build_backbone(architecture, 3, size)
    weights = arrays_of(network.state_dict())
    config = {
        "architecture": architecture, "options": {}, "stem": "auto", "input_size": size, "channels": 3,
        "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "crop_pct": 0.875, "interpolation": "bicubic",
        "crop_mode": "center", "num_features": network.num_features, "heads": {}, "source": "made.pth", "notes": [],
    }  # fmt: skip
    Path("data/models/made").mkdir(parents=True, exist_ok=True)
    write_backbone(Path("data/models/made"), weights, {}, config)
    listed = RunRow.model_validate({"name": run, "method": "simclr", "labels": "none", **row})
    Path("data/starts", run).mkdir(parents=True)
    starts.write_start(listed, Path("data/models"), Path("data/starts", run))
    return weights


def batched_view(images: torch.Tensor, short: Short, rng: torch.Generator) -> torch.Tensor:
    """(B, C, S, S) views of whole batches."""
    return batched.batched_view(images, short.settings, rng)


def per_image_views(read: Callable[[int], np.ndarray], short: Short, threads: int) -> per_image.PerImageViews:
    """Views image by image."""
    return per_image.PerImageViews(read, short.settings, threads)
