"""Thumbnails keep their shape; contact sheets hold each image in its place."""

from __future__ import annotations

import numpy as np
import pytest

from reprise.config.errors import ImageRefused
from reprise.media.image.decode import decode
from reprise.media.image.thumbnail import contact_sheet, shrink, thumbnail
from reprise.media.image.transform import resize_to_square
from tests.stages.ingest.hostile import encoded, photo


def test_shapes_are_kept_down_to_one_pixel() -> None:
    assert shrink(np.zeros((1000, 3, 3), np.uint8), 96).shape == (96, 1, 3)
    assert shrink(np.zeros((30, 20, 3), np.uint8), 96).shape == (30, 20, 3)
    assert shrink(np.zeros((200, 100, 3), np.uint8), 40).shape == (40, 20, 3)


def test_a_thumbnail_is_rgb_and_at_most_as_large_as_asked() -> None:
    grey = encoded(photo(1)[:, :, 0], "PNG")
    assert thumbnail(grey, "x", 16).shape == (12, 16, 3)
    assert np.array_equal(thumbnail(encoded(photo(1), "PNG"), "x", 64), photo(1))
    with pytest.raises(ImageRefused, match="not_an_image"):
        thumbnail(b"no image", "x", 16)


def test_a_sheet_holds_each_image_in_its_square_and_white_between() -> None:
    images = [(encoded(photo(seed), "PNG"), str(seed)) for seed in range(3)]
    sheet = decode(contact_sheet([images[:2], images[2:]], columns=3, side=10, gap=2), "sheet")
    assert sheet.shape == (24, 36, 3)
    assert np.array_equal(sheet[:10, 12:22], resize_to_square(photo(1), 10))
    assert np.array_equal(sheet[12:22, :10], resize_to_square(photo(2), 10))
    assert (sheet[10:12] == 255).all()
    assert (sheet[:, 24:] == 255).all()
