"""The sources mnist and fashion_mnist: small files in the official form, and files that are not what they say."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise.config.errors import ImageRefused, SourceError
from reprise.config.params import parse
from reprise.media.image.decode import decode
from reprise.storage import listing
from stages.ingest.ingest import ingest
from stages.ingest.known.idx import IdxImage, IdxSource, read_idx, stamp_of
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate, Refused
from stages.ingest.sources.fashion_mnist import FashionMnist
from stages.ingest.sources.mnist import Mnist


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def pixels(seed: int, n: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 20), dtype=np.uint8)


def files(root: Path, packed: bool = False, **changes: bytes) -> Path:
    """The four files, of images that are not square, so that rows and columns cannot be confused."""
    written = {
        "train-images-idx3-ubyte": idx(pixels(0)),
        "train-labels-idx1-ubyte": idx(np.array([0, 1, 2, 9, 0, 1], np.uint8)),
        "t10k-images-idx3-ubyte": idx(pixels(1, 3)),
        "t10k-labels-idx1-ubyte": idx(np.array([3, 2, 1], np.uint8)),
    } | {name.replace("_", "-"): data for name, data in changes.items()}
    root.mkdir(exist_ok=True)
    for name, data in written.items():
        path = root / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(data) if packed else data)
    return root


def named(root: Path, kind: type[IdxSource] = Mnist) -> list[Any]:
    return list(kind(root, parse(kind.Params, {}, "options")).candidates())


@pytest.mark.parametrize("packed", [False, True])
def test_images_labels_and_splits_are_those_of_the_files(tmp_path: Path, packed: bool) -> None:
    rows = named(files(tmp_path, packed))
    assert [(row.split, row.label) for row in rows] == [
        *zip(["train"] * 6, "012901", strict=True),
        *zip(["test"] * 3, "321", strict=True),
    ]
    for row, image in zip(rows, [*pixels(0), *pixels(1, 3)], strict=True):
        assert np.array_equal(decode(row.reference.read(10_000), "x", 1)[:, :, 0], image)
    assert len({row.name for row in rows}) == 9


def test_packed_files_give_the_same_keys_and_are_taken_in(tmp_path: Path) -> None:
    manifests = []
    for packed in (False, True):
        root, output = files(tmp_path / f"in{packed}", packed), tmp_path / f"out{packed}"
        output.mkdir()
        source = Mnist(root, Mnist.Params())
        card = ingest(source, SourceParams(name="mnist"), output, 1, published=Path("out"))
        assert (card["counts"], card["quarantined"]) == ({"train": 5, "val": 1, "test": 3}, 0)
        assert "These are 6 images of train, where the data set of that name has 60,000." in card["understood"]
        manifests.append((output / "manifest.parquet").read_bytes())
    assert manifests[0] == manifests[1]


def test_fashion_mnist_has_the_names_of_its_classes(tmp_path: Path) -> None:
    labels = [row.label for row in named(files(tmp_path), FashionMnist)]
    assert labels[:4] == ["T-shirt/top", "Trouser", "Pullover", "Ankle boot"]


def test_an_unknown_label_costs_its_image_alone(tmp_path: Path) -> None:
    bad = idx(np.array([0, 10, 255, 9, 0, 1], np.uint8))
    rows = named(files(tmp_path, train_labels_idx1_ubyte=bad))
    refused = [row for row in rows if isinstance(row, Refused)]
    assert [(row.reason, row.name[-10:-4]) for row in refused] == [
        ("unknown_label", "000001"),
        ("unknown_label", "000002"),
    ]
    assert "its label is 255" in refused[1].detail
    assert len([row for row in rows if isinstance(row, Candidate)]) == 7


IMAGES, LABELS = idx(pixels(0)), idx(np.zeros(6, np.uint8))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "first bytes , where this file begins with 00000803"),
        (LABELS, "first bytes 00000801"),
        (b"\0\0\x0d\x03" + IMAGES[4:], "first bytes 00000d03"),  # floats
        (IMAGES[:9], "ends too early"),
        (IMAGES[:-1], "3,359 of the 3,360 values"),
        (IMAGES + b"\0", "more than the 3,360 values"),
        (IMAGES[:4] + struct.pack(">3I", 0, 28, 28), "or none"),
        (IMAGES[:4] + struct.pack(">3I", 2**31, 28, 28), "more than any such file has"),
        (IMAGES[:4] + struct.pack(">3I", 1, 2**20, 1), "more than any such file has"),
        (gzip.compress(IMAGES)[:-9], "marker was reached|ended before"),
        (gzip.compress(IMAGES)[:40] + b"\xff" * 40, "."),
        (gzip.compress(IMAGES[:4] + struct.pack(">3I", 10**6, 28, 28) + bytes(10**7)), "values from .* packed bytes"),
        (b"<html>404 not found</html>", "first bytes 3c68746d"),
    ],
    ids=[
        "empty",
        "labels",
        "floats",
        "header",
        "short",
        "long",
        "none",
        "many",
        "side",
        "gzip",
        "damaged",
        "bomb",
        "html",
    ],
)
def test_a_file_that_is_not_what_it_says_is_named(tmp_path: Path, data: bytes, found: str) -> None:
    root = files(tmp_path, train_images_idx3_ubyte=data)
    with pytest.raises(SourceError, match=found) as caught:
        named(root)
    assert "train-images-idx3-ubyte" in caught.value.where
    assert "Fetch the file again" in caught.value.fix


def test_as_many_labels_as_images(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="6 images, and 5 labels in train-labels-idx1-ubyte"):
        named(files(tmp_path, train_labels_idx1_ubyte=idx(np.zeros(5, np.uint8))))


def test_a_missing_file_is_named_with_its_address(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no such folder.*ossci-datasets"):
        named(tmp_path / "nowhere")
    (files(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(SourceError, match=r"no t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz.*Fetch it from"):
        named(tmp_path)


def test_a_pipe_in_the_place_of_a_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(files(tmp_path) / "pipe")
    (tmp_path / "pipe").replace(tmp_path / "train-labels-idx1-ubyte")
    with pytest.raises(SourceError, match="FIFO"):
        named(tmp_path)


def test_the_digest_follows_the_content_and_reads_only_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(listing, "_RACY_NS", -1)
    source = Mnist(files(tmp_path / "in"), Mnist.Params())
    first = source.extent()
    assert (first.files, first.bytes) == (4, sum(p.stat().st_size for p in (tmp_path / "in").iterdir()))
    read: list[object] = []
    real = listing.sha256_of
    monkeypatch.setattr(listing, "sha256_of", lambda path: read.append(path) or real(path))
    assert source.extent() == first
    assert read == []
    labels = tmp_path / "in/train-labels-idx1-ubyte"
    before = labels.stat()
    labels.write_bytes(labels.read_bytes()[:-1] + b"\7")
    os.utime(labels, ns=(before.st_atime_ns, before.st_mtime_ns))  # the kernel keeps another time that shows it
    assert source.extent().digest != first.digest
    assert len(read) == 1


def test_a_file_that_changes_while_it_is_taken_in_costs_its_images(tmp_path: Path) -> None:
    path = files(tmp_path) / "train-images-idx3-ubyte"
    image = IdxImage(str(path), 0, stamp_of(path))
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ImageRefused, match="changed_while_reading"):
        image.read(10_000)
    with pytest.raises(SourceError):
        read_idx(path, 3)
