"""Reading shards from a web server: `python -m benchmarks.far_shards FOLDER --images 10000`.

The JPEG files of FOLDER, repeated with a number behind each until there are enough, are packed into tars (ours, also
read by WebDataset) and into chunks of LitData, all of one size. A server in a process of its own serves both from this
machine. Every reader shuffles and decodes in one process with one thread by the same function, from an empty cache,
in turn with the others, `--rounds` times. All but WebDataset fetch beside the decoding.

Limits are measured in the same run: the bytes alone, fetched one file after the other, and the decoding alone, from
memory. LitData is left out with a sentence where it is not installed (`pip install litdata`); it gets a downloader for
HTTP, which it lacks, of the fewest lines that fetch a file.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import http.server
import itertools
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from benchmarks.parts.reports import tell
from reprise.artifacts.shards import INDEX_SCHEMA, Shards, write_index
from reprise.artifacts.tars.far import FarTars
from reprise.artifacts.tars.table import FILE, FarTar, write_far
from reprise.config.stores import FarParams
from reprise.config.texts.addresses import parse_address
from reprise.reading.tars_ahead import TarsAhead
from reprise.reading.windows import Windows, windowed_batches
from reprise.storage import ustar
from reprise.storage.provenance import machine

BATCH = 256


def pictures(folder: Path, count: int) -> Iterator[bytes]:
    """Yield so many different JPEG files; a number behind the end of an image changes no pixel."""
    files = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))]
    for i in range(count):
        yield files[i % len(files)] + i.to_bytes(8, "big")


def decode(data: bytes) -> int:
    """Decode as every reader here does, and return one."""
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None
    return 1


def write_tars(images: Iterator[bytes], folder: Path, index: Path, tar_bytes: int) -> None:
    """Write tars under their names and under their hashes, with the index and the table of data/shards."""
    rows: list[dict[str, Any]] = []
    tars: dict[str, FarTar] = {}
    members: list[bytes] = []
    size = 0

    def finish() -> None:
        name, data = f"train-{len(tars):06d}.tar", b"".join([*members, ustar.END])
        tars[name] = FarTar(len(data), hashlib.sha256(data).hexdigest())
        (folder / name).write_bytes(data)
        (folder / tars[name].object).hardlink_to(folder / name)
        members.clear()

    for number, data in enumerate(images):
        member = ustar.member(f"{number:08d}.jpg", data)
        if size + len(member) > tar_bytes:
            finish()
            size = 0
        row = {"key": f"{number:08d}", "split": "train", "shard": f"train-{len(tars):06d}.tar", "ext": "jpg"}
        sides = {"width": 1, "height": 1, "channels": 3, "group": None}
        place = {"offset": size + ustar.BLOCK, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        rows.append({**row, **sides, **place})
        members.append(member)
        size += len(member)
    finish()
    write_index(index / "index.parquet", pa.Table.from_pylist(rows, INDEX_SCHEMA))
    write_far(index / FILE, parse_address(f"file://{folder}"), tars)


def write_chunks(images: Iterator[bytes], folder: Path, chunk_bytes: int) -> bool:
    """Write chunks of LitData; False where it is not installed."""
    try:
        from litdata.streaming.writer import BinaryWriter
    except ImportError as error:
        print(f"LitData is left out, because it is not installed ({error}).", file=sys.stderr)
        return False
    writer = BinaryWriter(str(folder), chunk_bytes=chunk_bytes)
    for number, data in enumerate(images):
        writer.add_item(number, {"image": data})
    writer.done()
    writer.merge()
    return True


def serve(folder: Path, port: Any) -> None:
    """Serve a folder from this process until it is ended."""

    class Silent(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=str(folder)))
    port.value = server.server_address[1]
    server.serve_forever()


def ours(address: str, index: Path, cache: Path, room: int, window: int | None, epoch: int) -> int:
    """Read an epoch, in windows where one is stated."""
    shards = Shards.open(index, FarParams(read_from=address, max_bytes=room))
    assert isinstance(shards.tars, FarTars)
    shards.tars = FarTars(index, shards.tars._table, shards.tars._params, cache)  # noqa: SLF001 - a cache of its own
    tar, sizes = shards.of_tar
    rng = np.random.default_rng(epoch)
    windows = [np.arange(len(shards))] if window is None else Windows(tar, sizes, window).draw(rng)
    order = windowed_batches("random", np.full(len(shards), -1), BATCH, windows, rng)
    ahead, read = TarsAhead(shards, np.arange(len(shards)), sizes, room), 0
    for number, rows in enumerate(order):
        ahead.at(0, number, order, list)
        read += sum(decode(shards.read(row)) for row in rows.tolist())
    return read


def webdataset_reads(address: str, tars: list[str], buffer: int) -> int:
    """Read an epoch with WebDataset: shuffled shards, and a buffer of samples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import webdataset

        urls = [f"{address}/{name}" for name in tars]
        samples = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0, empty_check=False).shuffle(buffer)
        return sum(decode(sample["jpg"]) for sample in samples)


def litdata_reads(address: str, cache: Path, room: int) -> int:
    """Read an epoch with LitData's dataset, which fetches chunks in a thread."""
    from litdata import StreamingDataset
    from litdata.streaming.downloader import Downloader, register_downloader
    from litdata.streaming.resolver import Dir

    class Http(Downloader):
        def download_file(self, remote_filepath: str, local_filepath: str) -> None:
            if not Path(local_filepath).exists():
                partial = f"{local_filepath}.tmp.download"
                urllib.request.urlretrieve(remote_filepath, partial)
                Path(partial).replace(local_filepath)
            self._notify_published(local_filepath)

    register_downloader("http://", Http, overwrite=True)
    cache.mkdir(parents=True)
    place = Dir(path=str(cache), url=f"{address}/chunks")
    return sum(decode(item["image"]) for item in StreamingDataset(place, shuffle=True, max_cache_size=room))


def fetched(address: str, names: list[str]) -> int:
    """Fetch files one after the other, and keep nothing."""
    for name in names:
        with urllib.request.urlopen(f"{address}/{name}") as answer:
            while answer.read(1 << 20):
                pass
    return 0


def timed(work: Callable[[int], int], number: int) -> tuple[float, float]:
    """Return seconds, and seconds of a processor, of this process and of those that it has started and seen end."""
    began, before = time.perf_counter(), os.times()
    work(number)
    after = os.times()
    return time.perf_counter() - began, sum(after[:4]) - sum(before[:4])


def spread(values: list[float], digits: int = 0) -> dict[str, float]:
    """Median, lowest and highest."""
    numbers = statistics.median(values), min(values), max(values)
    return dict(zip(("median", "low", "high"), (round(number, digits) for number in numbers), strict=True))


def turn_about(readers: dict[str, Callable[[int], int]], images: int, rounds: int) -> dict[str, Any]:
    """Let each reader read once a round, after a round that does not count; what else the machine does hits all."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
    for number in range(rounds + 1):
        for name, read in readers.items():
            took = timed(read, number)
            if number:
                found[name].append(took)
    return {
        name: {
            "images a second": spread([images / seconds for seconds, _ in took]),
            "microseconds of a processor an image": spread([1e6 * busy / images for _, busy in took]),
        }
        for name, took in found.items()
    }


def measure(folder: Path, images: int, tar_bytes: int, rounds: int, base: Path) -> dict[str, Any]:
    """Write, serve and read in `base`."""
    served, index = base / "served", base / "index"
    (served / "chunks").mkdir(parents=True)
    index.mkdir()
    write_tars(pictures(folder, images), served, index, tar_bytes)
    tars = sorted(path.name for path in served.glob("train-*.tar"))
    total = sum((served / name).stat().st_size for name in tars)
    has_litdata = write_chunks(pictures(folder, images), served / "chunks", tar_bytes)
    port = multiprocessing.get_context("spawn").Value("i", 0)
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(served, port), daemon=True)
    server.start()
    while port.value == 0:
        time.sleep(0.01)
    address, number = f"http://127.0.0.1:{port.value}", itertools.count()
    in_memory = list(pictures(folder, images))

    def cache() -> Path:
        shutil.rmtree(base / "cache", ignore_errors=True)  # of the reader before
        return base / "cache" / str(next(number))

    window = 4 * tar_bytes
    readers: dict[str, Callable[[int], int]] = {
        "limit: bytes alone": lambda _: fetched(address, tars),
        "limit: decoding alone": lambda _: sum(map(decode, in_memory)),
        "ours, one window": lambda n: ours(address, index, cache(), 2 * total, None, n),
        "ours, windows of 4 tars": lambda n: ours(address, index, cache(), 2 * window, window, n),
        "webdataset": lambda n: webdataset_reads(address, tars, 1000),
    }
    if has_litdata:
        readers["litdata"] = lambda n: litdata_reads(address, cache(), 2 * total)
    report = {"machine": machine(), "images": images, "megabytes": round(total / 1e6), "tars": len(tars)}
    try:
        return report | {"rounds": rounds} | turn_about(readers, images, rounds)
    finally:
        server.terminate()


def main() -> None:
    """Parse, measure, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with JPEG files below it")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--tar-bytes", type=int, default=16 << 20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as base:
        report = measure(options.folder, options.images, options.tar_bytes, options.rounds, Path(base))
    tell(report, options.json)


if __name__ == "__main__":
    main()
