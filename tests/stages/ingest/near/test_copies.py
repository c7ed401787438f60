"""Copies are found by their pixels, whatever else differs between the files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from reprise.artifacts.manifest import read_manifest, read_quarantine
from reprise.media.image.inspect import inspect, pixel_digest
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.sources.folder import Folder
from tests.stages.ingest.hostile import encoded, photo

PICTURE = photo(1)
GREY = np.repeat(PICTURE[:, :, :1], 3, axis=2)
FEW = np.asarray(Image.fromarray(PICTURE).quantize(16).convert("RGB"))


def jpeg_with_comment(data: bytes) -> bytes:
    return data[:2] + b"\xff\xfe\x00\x08edited" + data[2:]


def with_text(pixels: np.ndarray) -> bytes:
    note = PngImagePlugin.PngInfo()
    note.add_text("Date", "yesterday")
    return encoded(pixels, "PNG", pnginfo=note, dpi=(300, 300))


def lying_on_its_side(pixels: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    return encoded(np.rot90(pixels), "PNG", exif=exif)


def as_jpeg_shows(data: bytes) -> bytes:
    return encoded(Image.open(io.BytesIO(data)), "PNG")


JPEG = encoded(PICTURE, "JPEG", quality=90)
PAIRS = {
    "a comment": (JPEG, jpeg_with_comment(JPEG)),
    "compression": (encoded(PICTURE, "PNG", compress_level=1), encoded(PICTURE, "PNG", compress_level=9)),
    "text and resolution": (encoded(PICTURE, "PNG"), with_text(PICTURE)),
    "BMP": (encoded(PICTURE, "PNG"), encoded(PICTURE, "BMP")),
    "TIFF": (encoded(PICTURE, "PNG"), encoded(PICTURE, "TIFF", compression="tiff_lzw")),
    "WebP": (encoded(PICTURE, "PNG"), encoded(PICTURE, "WEBP", lossless=True)),
    "a JPEG saved as PNG": (JPEG, as_jpeg_shows(JPEG)),
    "orientation": (encoded(PICTURE, "PNG"), lying_on_its_side(PICTURE)),
    "8 bits stretched to 16": (
        encoded(GREY[:, :, 0], "PNG"),
        encoded(Image.fromarray(GREY[:, :, 0].astype(np.uint16) * 257), "PNG"),
    ),
    "a palette": (encoded(FEW, "PNG"), encoded(Image.fromarray(PICTURE).quantize(16), "PNG")),
    "grey stored as colour": (encoded(GREY, "PNG"), encoded(GREY[:, :, 0], "PNG")),
    "an opaque alpha channel": (encoded(PICTURE, "PNG"), encoded(Image.fromarray(PICTURE).convert("RGBA"), "PNG")),
}


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_the_same_picture_in_another_file_has_the_same_digest(name: str) -> None:
    first, second = PAIRS[name]
    assert first != second
    assert inspect(first, "a").pixels == inspect(second, "b").pixels


def test_a_changed_pixel_another_shape_or_another_depth_changes_the_digest() -> None:
    changed = PICTURE.copy()
    changed[3, 4, 1] ^= 1
    others = [changed, PICTURE.transpose(1, 0, 2), PICTURE[:, :, 0], PICTURE.astype(np.uint16)]
    assert len({pixel_digest(pixels) for pixels in (PICTURE, *others)}) == 5
    deep = PICTURE.astype(np.uint16) * 16
    assert pixel_digest(deep) == pixel_digest(deep.astype(">u2"))
    assert pixel_digest(np.zeros((2, 6), np.uint8)) != pixel_digest(np.zeros((3, 4), np.uint8))


def take_in(root: Path, output: Path) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """(split of each image kept, reason and sentence of each file refused), by name below the root."""
    output.mkdir()
    source = Folder(root, Folder.Params(layout="splits" if (root / "train").exists() else "classes"))
    ingest(source, SourceParams(name="folder"), output, 0)
    kept, refused = read_manifest(output / "manifest.parquet"), read_quarantine(output / "quarantine.parquet")
    splits = {str(Path(row["path"]).relative_to(root)): row["split"] for row in kept.to_pylist()}
    return splits, {
        str(Path(row["path"]).relative_to(root)): (row["reason"], row["detail"].replace(str(root), "ROOT"))
        for row in refused.to_pylist()
    }


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_no_picture_lies_in_two_splits_however_its_copies_were_saved(tmp_path: Path) -> None:
    files = {}
    for i in range(20):
        picture = photo(i)
        files[f"cat/{i}.png"] = encoded(picture, "PNG")
        files[f"cat/{i} copy.bmp"] = encoded(picture, "BMP")
    kept, refused = take_in(write(tmp_path / "root", files), tmp_path / "out")
    assert len(kept) == len(refused) == 20
    assert {Path(name).name for name in kept} == {f"{i} copy.bmp" for i in range(20)}  # the first by name
    assert set(kept.values()) == {"train", "val", "test"}
    assert refused["cat/7.png"] == ("duplicate", "the same pixels in another file as ROOT/cat/7 copy.bmp")


def test_copies_across_given_splits_stay_in_test_and_copies_with_two_labels_go(tmp_path: Path) -> None:
    one, two = photo(1), photo(2)
    files = {
        "train/cat/1.png": encoded(one, "PNG"),
        "test/cat/1.bmp": encoded(one, "BMP"),
        "train/cat/2.png": encoded(two, "PNG"),
        "train/dog/2.tif": encoded(two, "TIFF"),
        **{f"train/{label}/other.png": encoded(photo(seed), "PNG") for seed, label in ((3, "cat"), (4, "dog"))},
    }
    kept, refused = take_in(write(tmp_path / "root", files), tmp_path / "out")
    assert kept["test/cat/1.bmp"] == "test"
    assert refused["train/cat/1.png"] == (
        "duplicate_across_splits",
        "the same pixels in another file as ROOT/test/cat/1.bmp of test",
    )
    assert {name: refused[name][0] for name in ("train/cat/2.png", "train/dog/2.tif")} == {
        "train/cat/2.png": "label_conflict",
        "train/dog/2.tif": "label_conflict",
    }
