"""Mutated images and archives: each is taken in or refused with a reason, in bounded time; nothing else may happen.

`python -m tests.fuzz.fuzz_images --mutations 12000 --seed 0` prints a summary as JSON and exits with 1 on a finding.
Images go through the same worker processes as in ingest, so a decoder that crashes is counted and not fatal.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import random
import struct
import sys
import tarfile
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
from PIL import Image

from reprise.config.errors import ImageRefused, SourceError
from reprise.media.image.decode import decode
from reprise.media.image.inspect import inspect
from reprise.media.lookup import modality
from reprise.media.modality import Choices
from stages.ingest.candidates.examine import Finding, Limits, examine_all
from stages.ingest.source import Candidate
from stages.ingest.sources.cifar10 import Cifar10
from tests.reprise.media import tiff_files as t
from tests.stages.ingest import hostile

LIMITS = Limits(max_pixels=200_000, min_side=2)
EVERY_PAGE = Limits(max_pixels=200_000, min_side=2, choices=Choices(pages="all"))
SLOW = 5.0  # seconds for one image or archive; the seeds take milliseconds
ARCHIVE_SHARE = 0.1
REASONS = {"empty", "not_an_image", "truncated", "undecodable", "too_many_pixels", "too_small", "unsupported_depth"}
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def image_seeds() -> list[bytes]:
    """Sound files of every format and some odd ones."""
    pictures = [data for data, reason in hostile.FILES.values() if data and reason in (None, "unsupported_depth")]
    more = [
        hostile.encoded(hostile.photo(40), "TIFF", compression=c)
        for c in ("tiff_lzw", "jpeg", "tiff_deflate", "packbits", "group4")
        if c != "group4"
    ]
    progressive = hostile.encoded(hostile.photo(41), "JPEG", progressive=True)
    return [*pictures, *more, progressive, hostile.rotated(8, 42, "TIFF"), *deep_seeds()]


def deep_seeds() -> list[bytes]:
    """Files of more than 8 bits, more than three bands and several pages."""
    rng = np.random.default_rng(43)
    wide = rng.integers(0, 4096, (20, 24, 5), dtype=np.uint16)
    grey = wide[:, :, 0]
    smooth = np.cumsum(grey % 7, axis=1, dtype=np.uint16)
    tags = t.page_tags(grey)
    twelve = t.tiff([(t.page_tags(grey) | {t.BITS: 12}, [t.packed_bits(grey, 12)])], order=">")
    lzw = t.tiff([(tags | {t.COMPRESSION: 5, t.ROWS: 10}, [t.lzw(smooth[i : i + 10].tobytes()) for i in (0, 10)])])
    planes = [wide[:, :, band].tobytes() for band in range(5)]
    tiles = [np.pad(grey, ((0, 12), (0, 8)))[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16)]
    heic = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(hostile.photo(44))).save(heic, quality=60)
    avif = [cv2.IMWRITE_AVIF_DEPTH, 10]
    return [
        t.simple(grey),
        t.simple(grey, {t.PHOTOMETRIC: 0}, ">"),
        t.simple(wide.astype(np.float32) / 7),
        t.simple(grey.astype(np.int16) - 2000, {t.NO_DATA: b"-1999\0"}),
        twelve,
        lzw,
        t.tiff([(t.page_tags(wide) | {t.PLANAR: 2}, planes)], big=True),
        t.tiff([(tags | {t.TILE_WIDTH: 16, t.TILE_HEIGHT: 16}, tiles)]),
        t.tiff([(tags | {t.PREDICTOR: 2, t.COMPRESSION: 8}, [zlib.compress(smooth.tobytes())])]),
        t.tiff([t.deflated(grey + level) for level in range(4)]),
        cv2.imencode(".png", wide[:, :, :3])[1].tobytes(),
        cv2.imencode(".avif", wide[:, :, :3] >> 2, avif)[1].tobytes(),
        hostile.encoded(hostile.photo(45), "AVIF"),
        heic.getvalue(),
    ]


def archive_seed() -> bytes:
    """A small archive of the CIFAR-10 form."""
    folder, buffer = "cifar-10-batches-py", io.BytesIO()
    members: dict[str, object] = {f"{folder}/batches.meta": {b"label_names": [b"a", b"b"]}}
    for n, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        members[f"{folder}/{name}"] = {b"labels": [0, 1], b"data": np.full((2, 3072), n, np.uint8)}
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, value in members.items():
            data = pickle.dumps(value, 2)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One to four random edits."""
    body = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        rng.choice(EDITS)(body, other, rng)
    return bytes(body)


def _flip(body: bytearray, _: bytes, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 4, 32))):
        if body:
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)


def _head(body: bytearray, _: bytes, rng: random.Random) -> None:
    if body:
        body[rng.randrange(min(len(body), 64))] = rng.randrange(256)


def _number(body: bytearray, _: bytes, rng: random.Random) -> None:
    at, value = rng.randrange(len(body) + 1), rng.choice(INTERESTING)
    body[at : at + 4] = struct.pack(rng.choice("<>") + "I", value)


def _cut(body: bytearray, _: bytes, rng: random.Random) -> None:
    del body[rng.randrange(len(body) + 1) :]


def _remove(body: bytearray, _: bytes, rng: random.Random) -> None:
    at = rng.randrange(len(body) + 1)
    del body[at : at + rng.choice((1, 4, 50))]


def _repeat(body: bytearray, _: bytes, rng: random.Random) -> None:
    at = rng.randrange(len(body) + 1)
    body[at:at] = body[at : at + rng.choice((1, 16, 400))]


def _splice(body: bytearray, other: bytes, rng: random.Random) -> None:
    body[rng.randrange(len(body) + 1) :] = other[rng.randrange(len(other)) :]


EDITS: list[Callable[[bytearray, bytes, random.Random], None]] = [
    _flip,
    _flip,
    _head,
    _number,
    _cut,
    _remove,
    _repeat,
    _splice,
]


def check_image(data: bytes) -> str:
    """What became of an image: its fate, or a finding that starts with "!"."""
    began = time.perf_counter()
    try:
        found = inspect(data, "fuzz", LIMITS.max_pixels, LIMITS.min_side)
        pixels = decode(data, "fuzz", found.channels, LIMITS.max_pixels)
        fate = "taken in"
        if pixels.shape != (found.height, found.width, found.channels) or pixels.dtype != np.uint8:
            fate = f"!{pixels.shape} is not what was announced: {found}"
        elif wrong := _wrong_in_shards(data):
            fate = f"!{wrong}"
        elif found.plain and not np.array_equal(decode(data, "fuzz", found.channels, plain=True), pixels):
            fate = "!plain, but the decoders differ"
    except ImageRefused as refusal:
        fate = refusal.what if refusal.what in REASONS else f"!unknown reason {refusal.what}"
    except BaseException as error:  # noqa: BLE001
        fate = f"!{type(error).__name__}: {error}"
    return f"!{time.perf_counter() - began:.1f} s: {fate}" if time.perf_counter() - began > SLOW else fate


def _wrong_in_shards(data: bytes) -> str:
    """What is wrong with the stored form of any page; empty where nothing is. A damaged page refuses the file."""
    media = modality()
    samples = media.inspect(data, "fuzz", EVERY_PAGE)
    for sample in media.complete(samples, [True] * len(samples), EVERY_PAGE.choices):
        facts = sample.facts | {"bytes": len(data)}
        stored = media.stored_form(data, "fuzz", facts, 64)
        if len(stored.data) > media.largest_stored_bytes(facts, 64):
            return f"{len(stored.data)} bytes are stored, more than planned: {facts}"
        shape = media.decode(stored.data, "fuzz", facts["channels"]).shape
        if shape != (stored.height, stored.width, facts["channels"]):
            return f"{shape} is stored: {facts}"
        if media.thumbnail(stored.data, "fuzz", 8).shape[2] != 3:
            return "a thumbnail without colours"
    return ""


def check_archive(data: bytes, folder: Path) -> str:
    """What became of an archive, as `check_image`."""
    path = folder / "fuzzed.tar.gz"
    path.write_bytes(data)
    began = time.perf_counter()
    try:
        rows = list(Cifar10(path, Cifar10.Params(md5=None)).candidates())
        fate = "taken in" if all(isinstance(r, Candidate) for r in rows) else "!not candidates"
    except SourceError as error:
        fate = "archive refused" if error.fix else "!no advice"
    except BaseException as error:  # noqa: BLE001
        fate = f"!{type(error).__name__}: {error}"
    if sorted(p.name for p in folder.iterdir()) != ["fuzzed.tar.gz"]:
        fate = "!it wrote files"
    return f"!{time.perf_counter() - began:.1f} s: {fate}" if time.perf_counter() - began > SLOW else fate


def _check_chunk(chunk: list[tuple[str, bytes]], limits: Limits) -> list[Finding]:
    return [Finding(None, 0, (), check_image(data)) for _, data in chunk]


def run(mutations: int, seed: int, workers: int = 2) -> dict[str, object]:
    """Fuzz; returns counts of what happened and all findings (name of the mutation -> what was wrong)."""
    from stages.ingest.candidates import examine

    rng = random.Random(seed)
    seeds, archive = image_seeds(), archive_seed()
    images = [
        (f"image {n}", mutate(rng.choice(seeds), rng.choice(seeds), rng))
        for n in range(round(mutations * (1 - ARCHIVE_SHARE)))
    ]
    original, fates = examine._examine_chunk, {}
    examine._examine_chunk = _check_chunk
    try:
        found: Iterator[Finding] = examine_all(images, LIMITS, workers)
        for (name, _), finding in zip(images, found, strict=True):
            fates[name] = finding.reason
    finally:
        examine._examine_chunk = original
    with tempfile.TemporaryDirectory() as folder:
        for n in range(mutations - len(images)):
            fates[f"archive {n}"] = check_archive(_mutated_archive(archive, rng), Path(folder))
    findings = {name: fate for name, fate in fates.items() if fate.startswith("!")}
    counts = dict(sorted(Counter("finding" if f.startswith("!") else f for f in fates.values()).items()))
    return {"mutations": len(fates), "seed": seed, "counts": counts, "findings": findings}


def _mutated_archive(archive: bytes, rng: random.Random) -> bytes:
    """Edits to the compressed bytes (mostly caught by gzip) or, more often, to what is inside."""
    import gzip

    if rng.random() < 0.2:
        return mutate(archive, archive, rng)
    return gzip.compress(mutate(gzip.decompress(archive), archive, rng), 1)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Fuzz the decoders of images and archives.")
    parser.add_argument("--mutations", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    began = time.perf_counter()
    summary = run(options.mutations, options.seed, options.workers)
    summary["seconds"] = round(time.perf_counter() - began, 1)
    json.dump(summary, sys.stdout, indent=2)
    print()
    return 1 if summary["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
