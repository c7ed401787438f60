"""Sharding and reading against WebDataset on the same files: `python -m benchmarks.data FOLDER --images 10000`.

Everything is measured in this one process, one core, each step `--repeats` times after a warm-up; medians and
spreads go to stdout as JSON (and to a file with `--json`), with the ratios against the peer measured beside it.
Files are read once before the clock starts, so the disk cache is warm for all.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.parts.reports import tell
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.shards import Shards
from reprise.media.image.decode import decode
from reprise.reading.decoded import open_decoded
from reprise.storage.provenance import machine
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.sources.folder import Folder
from stages.shard.params import ShardParams
from stages.shard.write import write_shards

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import webdataset


def rate(work: Callable[[], int], repeats: int) -> dict[str, float]:
    """Images a second: median, lowest and highest of `repeats` runs after one that does not count."""
    work()
    rates = []
    for _ in range(repeats):
        began = time.perf_counter()
        images = work()
        rates.append(images / (time.perf_counter() - began))
    return {"median": round(statistics.median(rates)), "low": round(min(rates)), "high": round(max(rates))}


def write_with_reprise(rows: Any, folder: Path) -> int:
    """Shards with their index and hash checks."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_shards(rows, ShardParams(), folder, workers=1)
    return rows.num_rows


def write_with_webdataset(rows: list[dict[str, Any]], folder: Path) -> int:
    """The same members with webdataset.ShardWriter; it keeps no index and checks no hash."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "peer-%06d.tar"), maxsize=64 << 20, verbose=0) as sink:
        for row in rows:
            card = {k: row[k] for k in ("key", "split", "width", "height", "channels", "group")}
            sink.write({"__key__": row["key"], "jpg": Path(row["path"]).read_bytes(), "json": card})
    return len(rows)


def read_with_webdataset(urls: list[str], images: int) -> int:
    """Decode every image with WebDataset's own reader, in its order."""
    stream = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode("rgb8")
    return sum(1 for _ in itertools.islice(stream, images))


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="images, in a layout of the folder source")
    parser.add_argument("--images", type=int, default=10_000, help="at most so many, the first by key")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="reprise-bench-") as scratch:
        report = measure(options.folder, options.images, options.repeats, Path(scratch))
    tell(report, options.json)
    return 0


def measure(folder: Path, images: int, repeats: int, scratch: Path) -> dict[str, Any]:
    """All figures."""
    ingested = scratch / "ingest"
    ingested.mkdir()
    ingest(Folder(folder, Folder.Params()), SourceParams(name="folder"), ingested, os.cpu_count() or 1)
    table = read_manifest(ingested / "manifest.parquet").slice(0, images)
    rows = table.to_pylist()
    for row in rows:
        Path(row["path"]).read_bytes()
    mine, peer = scratch / "mine", scratch / "peer"
    figures: dict[str, Any] = {
        "write": {
            "reprise": rate(lambda: write_with_reprise(table, mine), repeats),
            "webdataset ShardWriter": rate(lambda: write_with_webdataset(rows, peer), repeats),
        }
    }
    shards = Shards.open(mine)
    order = np.random.default_rng(0).permutation(len(shards)).tolist()
    urls = sorted(str(path) for path in mine.glob("*.tar"))
    figures["read encoded, random order"] = {
        "reprise pread": rate(lambda: sum(1 for i in order if shards.read(i)), repeats)
    }
    figures["read decoded"] = {
        "reprise, random order": rate(
            lambda: sum(1 for i in order if decode(shards.read(i), "", 3, plain=True).size), repeats
        ),
        "webdataset, shard order": rate(lambda: read_with_webdataset(urls, len(shards)), repeats),
        "loose files with OpenCV": rate(lambda: sum(1 for row in rows if cv2.imread(row["path"]) is not None), repeats),
    }
    pixels = open_decoded(shards, shards.rows(), 3, cache=scratch / "cache")
    figures["decoded cache, random order"] = {
        "reprise": rate(lambda: sum(1 for i in order if pixels.image(i).size), repeats)
    }
    write, read = figures["write"], figures["read decoded"]
    return {
        "machine": machine(),
        "python": platform.python_version(),
        "webdataset": webdataset.__version__,
        "opencv": cv2.__version__,
        "images": len(rows),
        "repeats": repeats,
        "unit": "images a second on one core",
        "figures": figures,
        "ratios": {
            "write against ShardWriter": ratio(write["reprise"], write["webdataset ShardWriter"]),
            "read decoded against webdataset": ratio(read["reprise, random order"], read["webdataset, shard order"]),
            "read decoded against loose files": ratio(read["reprise, random order"], read["loose files with OpenCV"]),
        },
    }


def ratio(ours: dict[str, float], theirs: dict[str, float]) -> float:
    """Median against median."""
    return round(ours["median"] / theirs["median"], 2)


if __name__ == "__main__":
    sys.exit(main())
