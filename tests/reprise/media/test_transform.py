"""Scaling, cropping, rotating and blurring, against naive restatements."""

from __future__ import annotations

import numpy as np
import pytest

from reprise.media.image.transform import blur, crop_centre, resize, resize_to_square, rotate
from tests.stages.ingest.hostile import photo


@pytest.mark.parametrize(("height", "width"), [(24, 32), (32, 24), (7, 7), (100, 20), (5, 300)])
@pytest.mark.parametrize("size", [8, 16, 64])
def test_square_scales_the_shorter_side_and_cuts_the_centre(height: int, width: int, size: int) -> None:
    result = resize_to_square(photo(7, height, width), size)
    assert result.shape == (size, size, 3)
    constant = resize_to_square(np.full((height, width, 1), 93, np.uint8), size)
    assert (constant == 93).all()


def test_square_leaves_what_fits() -> None:
    pixels = photo(8, 16, 16)
    assert resize_to_square(pixels, 16) is pixels
    assert np.array_equal(crop_centre(photo(8), 24), photo(8)[:, 4:28])


def test_shrinking_averages_areas() -> None:
    pixels = photo(9, 32, 32)
    expected = pixels.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    assert np.abs(resize(pixels, 16, 16) - expected).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_quarter_turn_is_a_rotation_of_the_grid(channels: int) -> None:
    pixels = photo(9, 16, 16)[:, :, :channels]
    assert np.array_equal(rotate(pixels, 0.0), pixels)
    assert np.abs(rotate(pixels, 90.0).astype(int) - np.rot90(pixels)).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_blur_keeps_the_mean_and_flattens_noise(channels: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, channels), np.uint8)
    blurred = blur(noise, 2.0)
    assert blurred.shape == noise.shape
    assert abs(blurred.mean() - noise.mean()) < 2
    assert blurred.std() < noise.std() / 4
