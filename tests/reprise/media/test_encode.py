"""Each encoder keeps its promise: the same bytes for ever, the same pixels, or the fewest bytes."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from reprise.media.image.decode import decode
from reprise.media.image.encode import lossless_png, sheet_png, smallest, uncompressed_png
from reprise.media.image.inspect import inspect
from tests.stages.ingest.hostile import photo


@pytest.mark.parametrize("pixels", [photo(6), photo(6)[:, :, 1], np.zeros((1, 1), np.uint8), photo(6, 200, 400)])
def test_uncompressed_png_is_a_png_of_these_pixels(pixels: np.ndarray) -> None:
    data = uncompressed_png(pixels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    assert inspect(data, "x").plain
    assert uncompressed_png(pixels.copy()) == data


def test_uncompressed_png_bytes_never_change() -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3  # golden: keys of digits and CIFAR hang on it
    assert (
        hashlib.sha256(uncompressed_png(pixels)).hexdigest()
        == "0aa0da0b105f3401adb6f0908d079fe25be8f0ae99622c3cdd6b380ec25aa17c"
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_png_keeps_every_pixel(channels: int) -> None:
    pixels = photo(6)[:, :, :channels]
    assert np.array_equal(decode(lossless_png(pixels), "x", channels, plain=True), pixels)


def test_a_sheet_keeps_every_pixel() -> None:
    assert np.array_equal(decode(sheet_png(photo(6)), "x"), photo(6))


def test_the_smaller_encoding_is_taken_unless_pixels_must_stay() -> None:
    flat, noise = np.full((40, 40, 3), 200, np.uint8), np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    assert smallest(flat, lossless=False)[0] == "png"
    subtype, data = smallest(noise, lossless=False)
    assert subtype == "jpeg"
    assert len(data) < len(smallest(noise, lossless=True)[1])
    assert np.array_equal(decode(smallest(noise, lossless=True)[1], "x"), noise)
