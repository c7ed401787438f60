"""The source stl10: small files in the official form, their folds, and files that are not what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise.config.errors import ImageRefused, ParameterError, SourceError
from reprise.config.params import parse
from reprise.media.image.decode import decode
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.source import Refused
from stages.ingest.sources.stl10 import Stl10, StlImage

NAMES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]


def pictures(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 96, 96, 3), dtype=np.uint8)


def columns_first(images: np.ndarray) -> bytes:
    """As MATLAB writes them: for each colour, one column after the other."""
    return b"".join(image[:, :, c].tobytes(order="F") for image in images for c in range(3))


def files(root: Path, **changes: bytes) -> Path:
    written = {
        "class_names.txt": ("\n".join(NAMES) + "\n").encode(),
        "train_X.bin": columns_first(pictures(0, 5)),
        "train_y.bin": bytes((1, 2, 10, 1, 3)),
        "test_X.bin": columns_first(pictures(1, 2)),
        "test_y.bin": bytes((2, 1)),
        "unlabeled_X.bin": columns_first(pictures(2, 3)),
        "fold_indices.txt": "\n".join(f"{k % 5} {(k + 1) % 5}" for k in range(10)).encode(),
    } | {name.replace("__", "."): data for name, data in changes.items()}
    root.mkdir(exist_ok=True)
    for name, data in written.items():
        (root / name).write_bytes(data)
    return root


def source(root: Path, **options: Any) -> Stl10:
    return Stl10(root, parse(Stl10.Params, options, "options"))


def test_images_stand_upright_with_the_labels_and_splits_of_the_files(tmp_path: Path) -> None:
    rows = list(source(files(tmp_path)).candidates())
    assert [row.label for row in rows] == [
        "airplane",
        "bird",
        "truck",
        "airplane",
        "car",
        "bird",
        "airplane",
        *[None] * 3,
    ]
    assert [row.split for row in rows] == [*["train"] * 5, *["test"] * 2, *["train"] * 3]
    for row, image in zip(rows, [*pictures(0, 5), *pictures(1, 2), *pictures(2, 3)], strict=True):
        assert np.array_equal(decode(row.reference.read(100_000), "x", 3), image)


def test_they_are_taken_in_and_what_was_understood_is_said(tmp_path: Path) -> None:
    stl, output = source(files(tmp_path / "in")), tmp_path / "out"
    output.mkdir()
    card = ingest(stl, SourceParams(name="stl10"), output, 1, published=output)
    assert (card["kept"], card["counts"]["test"], card["uniform"]) == (10, 2, [96, 96])
    assert "3 images without a class are part of train." in card["understood"]
    assert "train_X.bin has 5 images; the official one has 5,000." in card["understood"]


def test_without_unlabelled_images_their_file_is_not_needed(tmp_path: Path) -> None:
    (files(tmp_path) / "unlabeled_X.bin").unlink()
    assert len(list(source(tmp_path, unlabeled=False).candidates())) == 7
    with pytest.raises(SourceError, match=r"no unlabeled_X.bin.*stl10_binary.tar.gz"):
        list(source(tmp_path).candidates())


def test_of_one_fold_only_its_images_keep_their_class_and_the_others_stay(tmp_path: Path) -> None:
    stl = source(files(tmp_path), fold=4)  # images 4 and 0
    assert [row.label for row in stl.candidates()][:7] == ["airplane", None, None, None, "car", "bird", "airplane"]
    assert "Of train, only the images of fold 4 have a class." in stl.understood()
    with pytest.raises(ParameterError, match="fold"):
        source(tmp_path, fold=10)


def test_folds_as_facts(tmp_path: Path) -> None:
    stl = source(files(tmp_path), fold_facts=True)
    rows = list(stl.candidates())
    assert [fact.name for fact in stl.facts()] == [f"fold_{k}" for k in range(10)]
    assert [name for name, held in rows[1].facts.items() if held] == ["fold_0", "fold_1", "fold_5", "fold_6"]
    assert (rows[5].facts, rows[8].facts) == ({}, {})  # test and unlabelled images are in no fold
    assert source(tmp_path).facts() == ()


def test_a_label_beyond_the_classes_costs_its_image_alone(tmp_path: Path) -> None:
    rows = list(source(files(tmp_path, train_y__bin=bytes((0, 2, 11, 1, 3)))).candidates())
    assert [row.reason for row in rows if isinstance(row, Refused)] == ["unknown_label"] * 2
    assert len(rows) == 10


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("train_X__bin", b"", "no whole number of images"),
        ("train_X__bin", columns_first(pictures(0, 5))[:-1], "138,239 bytes, which is no whole number"),
        ("train_X__bin", columns_first(pictures(0, 4)), "4 images, and 5 labels in train_y.bin"),
        ("class_names__txt", b"cat\ndog\n", "2 names"),
        ("class_names__txt", "\n".join(["cat"] * 10).encode(), "1 of them different"),
        ("class_names__txt", b"\xff" * 20, "not UTF-8"),
        ("class_names__txt", "\n".join([*NAMES[:9], "a\x1b[2J"]).encode(), "no name"),
        ("fold_indices__txt", b"0 1\n", "1 lines with numbers"),
        ("fold_indices__txt", b"0 -1\n" * 10, "none is negative"),
        ("fold_indices__txt", b"0 five\n" * 10, "no number"),
        ("fold_indices__txt", b"0 5\n" * 10, "image 5 of 5, counted from 0"),
    ],
    ids=["empty", "short", "count", "names", "same", "bytes", "control", "lines", "negative", "word", "beyond"],
)
def test_a_file_that_is_not_what_it_says_is_named(tmp_path: Path, name: str, data: bytes, found: str) -> None:
    with pytest.raises(SourceError, match=found) as caught:
        list(source(files(tmp_path, **{name: data}), fold=0).candidates())
    assert name.replace("__", ".") in caught.value.where


def test_a_file_that_became_shorter_costs_the_images_that_are_gone(tmp_path: Path) -> None:
    with pytest.raises(ImageRefused, match="truncated"):
        StlImage(str(files(tmp_path) / "test_X.bin"), 2).read(100_000)


def test_the_digest_is_of_the_files_that_the_options_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files(tmp_path / "in")
    whole, fewer = source(tmp_path / "in").extent(), source(tmp_path / "in", unlabeled=False).extent()
    assert (whole.files, fewer.files) == (6, 5)
    (tmp_path / "in/unlabeled_X.bin").write_bytes(columns_first(pictures(3, 3)))
    assert source(tmp_path / "in").extent().digest != whole.digest
    assert source(tmp_path / "in", unlabeled=False).extent() == fewer
