"""Data for a benchmark of training: files, drawn or from elsewhere, as `stages.shard` leaves them."""

from __future__ import annotations

import hashlib
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def drawn(images: int, width: int, height: int) -> list[bytes]:
    """JPEG files of smooth colours with some noise, as many bytes as photographs have; a quarter of them upright."""
    import cv2
    import numpy as np

    def draw(number: int) -> bytes:
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        w, h = (height, width) if number % 4 == 0 else (width, height)
        smooth = cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        noise = rng.integers(-24, 25, (h // 2 + 1, w // 2 + 1, 3), dtype=np.int16)
        noise = noise.repeat(2, axis=0).repeat(2, axis=1)[:h, :w]
        pixels = np.clip(smooth + noise, 0, 255).astype(np.uint8)
        return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()

    with ThreadPoolExecutor() as pool:
        return list(pool.map(draw, range(images), chunksize=64))


def packed(archive: Path) -> list[bytes]:
    """The training images of an archive, class after class."""
    with tarfile.open(archive) as tar:
        members = [(m.name, tar.extractfile(m)) for m in tar if m.isfile() and "train/" in m.name]
        return [file.read() for _, file in members if file is not None]


def photographs(folder: Path) -> list[bytes]:
    """The RGB JPEG files in a folder and in those below it, by path."""
    from io import BytesIO

    from PIL import Image

    files = [path.read_bytes() for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")]
    return [data for data in files if Image.open(BytesIO(data)).mode == "RGB"]


def make_workspace(folder: Path, files: list[bytes], views: dict[str, Any]) -> None:
    """What `stages.pretrain` reads: shards, suggested views, and an empty label set."""
    from io import BytesIO

    import pyarrow as pa
    from PIL import Image

    from reprise.artifacts.labels.label_sets import FILE, SCHEMA, write_pseudo_labels
    from reprise.artifacts.shards import INDEX, write_index
    from reprise.storage import ustar
    from reprise.storage.atomic import write_json

    shards, place, rows = folder / "data/shards", 0, []
    shards.mkdir(parents=True)
    with open(shards / "train-000000.tar", "wb") as tar:
        for number, data in enumerate(files):
            key = hashlib.sha256(data + str(number).encode()).hexdigest()[:16]
            tar.write(ustar.member(f"{key}.jpg", data))
            width, height = Image.open(BytesIO(data)).size
            rows.append(
                {"key": key, "split": "train", "shard": "train-000000.tar", "offset": place + ustar.BLOCK, "ext": "jpg",
                 "bytes": len(data), "width": width, "height": height, "channels": 3, "group": None,
                 "sha256": hashlib.sha256(data).hexdigest()}
            )  # fmt: skip
            place += ustar.member_size(len(data))
        tar.write(ustar.END)
    write_index(shards / INDEX, pa.Table.from_pylist(rows))
    (folder / "data/ingest").mkdir()
    write_json(folder / "data/ingest/views.json", views)
    labels = [{"key": r["key"], "cluster": None, "distance": None, "confidence": None, "round": 0} for r in rows]
    write_pseudo_labels(folder / "data/mine/none/0" / FILE, pa.Table.from_pylist(labels, SCHEMA))
