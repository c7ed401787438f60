"""The work of six stages on images made for the occasion, as callables that a benchmark times."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

SIDE = 64  # pixels


@dataclass(frozen=True)
class Sizes:
    """How much work there is.

    Attributes:
        images: JPEG files of 64 pixels.
        rows: of features for k-means.
        queries: of features, each compared with as many.
        dimensions: of features.
        centres: of k-means.
        batch: images that a network sees at a time.
    """

    images: int = 4000
    rows: int = 400_000
    queries: int = 12_000
    dimensions: int = 128
    centres: int = 256
    batch: int = 64


TOY = Sizes(images=80, rows=70_000, queries=300, dimensions=16, centres=8, batch=4)


@contextmanager
def project(sizes: Sizes) -> Iterator[dict[str, Callable[[], int]]]:
    """Make a folder with images and an untrained backbone, and work in it.

    Yields:
        stage -> a call that does its work once and returns how many images or rows that were. `shard` needs `ingest`,
        and `embed` and `features` need `shard`.
    """
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        os.chdir(folder)
        stack.callback(os.chdir, before)
        os.environ["REPRISE_QUIET"] = "1"
        for place in ("stages.embed.embedding", "stages.mine.extractor"):
            stack.enter_context(mock.patch(f"{place}.WORTH_CLUSTER", 2))
        stack.enter_context(mock.patch("stages.ingest.candidates.examine._WORTH_CLUSTER", 2))
        stack.enter_context(mock.patch("reprise.runtime.blocks.arrays.LEAST_WORK", 1))
        _write_images(sizes.images)
        _write_backbone()
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(sizes.rows, sizes.dimensions)).astype(np.float32)
        yield {
            "ingest": _ingest,
            "shard": _shard,
            "embed": lambda: _embed(sizes.batch),
            "features": lambda: _features(sizes.batch),
            "kmeans": lambda: _kmeans(rows, sizes.centres),
            "neighbours": lambda: _neighbours(rows[: sizes.queries]),
        }


def _write_images(count: int) -> None:
    import cv2

    Path("images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(f"images/{number:07d}.jpg", picture)


def _write_backbone() -> None:
    import torch

    from reprise.artifacts.weights.backbones import write_backbone
    from reprise.networks.backbone import build_backbone
    from reprise.networks.state import arrays_of

    torch.manual_seed(0)
    backbone = build_backbone("resnet_tiny", 3, SIDE)
    config = {
        "architecture": "resnet_tiny", "options": {}, "stem": "auto", "input_size": SIDE, "channels": 3,
        "mean": [0.5] * 3, "std": [0.25] * 3, "num_features": 64, "heads": {},
    }  # fmt: skip
    folder = Path("data/runs/untrained/0")
    folder.mkdir(parents=True)
    write_backbone(folder, arrays_of(backbone.state_dict()), {}, config)


def _fresh(folder: str) -> Path:
    path = Path(folder)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def _ingest() -> int:
    from stages.ingest.ingest import ingest
    from stages.ingest.params import SourceParams
    from stages.ingest.sources.folder import Folder

    params = SourceParams(name="folder", near_copies="report")
    card = ingest(Folder("images", Folder.Params(labels="none")), params, _fresh("data/ingest"), 1)
    return int(card["found"])


def _shard() -> int:
    from reprise.artifacts.manifest import read_manifest
    from reprise.runtime.blocks.use import asked
    from stages.shard import write
    from stages.shard.params import ShardParams

    manifest, work, output = read_manifest(), _fresh("work"), _fresh("data/shards")
    least = max(1 << 14, manifest.num_rows * 300)  # a dozen tars or more
    params = ShardParams.model_construct(max_shard_bytes=least, max_side=512)
    with mock.patch.object(write, "_WORTH_PROCESSES", 0 if asked() else 1 << 60):
        write.write_shards(manifest, params, output, 1, work)
    return int(manifest.num_rows)


def _embed(batch: int) -> int:
    from reprise.artifacts.shards import Shards
    from stages.embed.embedding import embed
    from stages.embed.params import EmbedParams

    shutil.rmtree(".reprise/decoded", ignore_errors=True)
    embed("untrained", 0, EmbedParams(batch_size=batch, augmented=0), Path("data/embed"), restart=True)
    return len(Shards.open())


def _features(batch: int) -> int:
    from reprise.artifacts.shards import Shards
    from reprise.config.params import ImageParams
    from reprise.config.plug_ins.registry import load_class
    from stages.mine.extractor import Extractor
    from stages.mine.features import extract

    shutil.rmtree(".reprise/decoded", ignore_errors=True)
    kind = load_class("extractors", "backbone", Extractor, "")
    params = kind.Params(weights="data/runs/untrained/0", batch_size=batch)
    extract(kind, params, "backbone", 0, ImageParams(size=SIDE, channels=3), Path("data/features/b/0"), restart=True)
    return len(Shards.open().rows("train"))


def _kmeans(rows: np.ndarray, count: int) -> int:
    """Make one exact move: labels, then sums."""
    from reprise.clustering.centres import nearest_centres, sums

    sums(rows, nearest_centres(rows, rows[:count], "cpu"), count)
    return len(rows)


def _neighbours(rows: np.ndarray) -> int:
    from reprise.measures.nearest.neighbours import top_k

    top_k(rows, rows, 20)
    return len(rows)
