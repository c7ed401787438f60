"""HEIC through pillow-heif: colours, depth, transparency, turns, bursts, damage."""

from __future__ import annotations

import io

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from reprise.config.errors import ImageRefused
from reprise.media.image.decode import decode
from reprise.media.image.inspect import inspect, inspect_pages
from reprise.media.modality import Choices, Limits
from tests.stages.ingest.hostile import photo


def heic(*pictures: np.ndarray, mode: str = "RGB", **options: object) -> bytes:
    """Encode without loss."""
    file = pillow_heif.HeifFile()
    for picture in pictures:
        size = picture.shape[1], picture.shape[0]
        file.add_frombytes(mode, size, np.ascontiguousarray(picture).tobytes())
    buffer = io.BytesIO()
    file.save(buffer, quality=-1, chroma=444, matrix_coefficients=0, **options)
    return buffer.getvalue()


def test_colours_are_those_of_the_picture() -> None:
    data = heic(photo(1))
    found = inspect(data, "x")
    assert (found.format, found.plain, found.channels, found.width, found.height) == ("HEIC", False, 3, 32, 24)
    assert np.abs(decode(data, "x").astype(int) - photo(1)).max() <= 1


def test_grey_is_grey() -> None:
    grey = photo(1)[:, :, 0]
    found = decode(heic(grey, mode="L"), "x", 1)
    assert inspect(heic(grey, mode="L"), "x").channels == 1
    assert np.abs(found[:, :, 0].astype(int) - grey).max() <= 1


def test_ten_bits_are_kept_until_the_range_is_applied() -> None:
    values = np.random.default_rng(0).integers(0, 1024, (24, 32, 3), dtype=np.uint16)
    data = heic(values << 6, mode="RGB;16")
    found = inspect(data, "x")
    assert (found.sample, found.observed.declared) == ("uint16", (0, 1023))
    assert np.abs(decode(data, "x") - np.floor(values * 255.0 / 1023 + 0.5)).max() <= 1


def test_transparency_is_laid_over_white() -> None:
    alpha = np.full((24, 32), 255, np.uint8)
    alpha[:, :16] = 0
    data = heic(np.dstack([photo(1), alpha]), mode="RGBA")
    found = decode(data, "x")
    assert found[:, :14].min() >= 250
    assert np.abs(found[:, 18:].astype(int) - photo(1)[:, 18:]).max() <= 6
    assert "transparency" in inspect(data, "x").changes


def test_turns_are_applied_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, :16] = 250  # the left becomes the top
    pillow_heif.from_pillow(Image.fromarray(picture)).save(buffer, quality=95, exif=exif.tobytes())
    found = decode(buffer.getvalue(), "x")
    assert found.shape == (64, 32, 3)
    assert found[:12].min() > 200
    assert found[20:].max() < 50


def test_a_burst_has_a_page_for_each_picture() -> None:
    data = heic(photo(1), photo(2), photo(3))
    pages = inspect_pages(data, "x", Limits(10_000, 1, Choices(pages="all")))
    assert [page.page for page in pages] == [1, 2, 3]
    assert len({page.pixels for page in pages}) == 3


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_what_was_cut_off_is_refused(kept: float) -> None:
    data = heic(photo(1, 64, 64))
    with pytest.raises(ImageRefused) as caught:
        inspect(data[: int(len(data) * kept)], "x")
    assert caught.value.what in ("truncated", "undecodable")
    assert caught.value.where == "x"


def test_too_many_pixels_are_refused_by_the_header() -> None:
    with pytest.raises(ImageRefused, match="too_many_pixels.*64 x 64"):
        inspect(heic(photo(1, 64, 64)), "x", max_pixels=4000)
