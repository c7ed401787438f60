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


def triangle(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Restate the antialiased triangle, weight by weight and without rounding: (height, width, c) float64."""
    for axis, count in ((0, height), (1, width)):
        scale = pixels.shape[axis] / count
        reach = max(scale, 1.0)  # pixels of the input on each side of an output pixel's centre
        weights = np.zeros((count, pixels.shape[axis]))
        for i in range(count):
            for j in range(pixels.shape[axis]):
                weights[i, j] = max(0.0, 1.0 - abs((j + 0.5) - (i + 0.5) * scale) / reach)
            weights[i] /= weights[i].sum()
        pixels = np.moveaxis(np.tensordot(weights, pixels.astype(np.float64), (1, axis)), 0, axis)
    return pixels


def gradient(height: int, width: int) -> np.ndarray:
    """Red rises to the right, green downwards, blue along the diagonal."""
    down, right = np.mgrid[0:height, 0:width]
    slopes = right / (width - 1), down / (height - 1), (right + down) / (width + height - 2)
    return np.rint(255 * np.stack(slopes, axis=2)).astype(np.uint8)


def edge(height: int, width: int) -> np.ndarray:
    """White from a third of the width on, black from two thirds of the height on."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: 2 * height // 3, width // 3 :] = 255
    return pixels


def checkerboard(height: int, width: int) -> np.ndarray:
    """Fields of one pixel: the finest detail that there is."""
    field = (np.indices((height, width)).sum(axis=0) % 2 * 255).astype(np.uint8)
    return np.repeat(field[:, :, None], 3, axis=2)


PICTURES = {"gradient": gradient, "edge": edge, "checkerboard": checkerboard, "noise": lambda h, w: photo(3, h, w)}


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize(("width", "height"), [(32, 32), (12, 31), (100, 7), (61, 130), (1, 1), (96, 96)])
def test_scaling_is_an_antialiased_triangle(picture: str, width: int, height: int) -> None:
    """Shrunk, enlarged, or one of each along the two axes; the two passes round once each."""
    pixels = PICTURES[picture](64, 96)
    assert np.abs(resize(pixels, width, height) - triangle(pixels, width, height)).max() <= 1.001


@pytest.mark.parametrize("bands", [1, 2, 4, 6])
def test_bands_are_scaled_each_on_its_own(bands: int) -> None:
    pixels = np.random.default_rng(bands).integers(0, 256, (40, 30, bands), np.uint8)
    found = resize(pixels, 9, 13)
    assert found.shape == (13, 9, bands)
    assert np.abs(found - triangle(pixels, 9, 13)).max() <= 1.001


def test_a_fine_checkerboard_becomes_grey_and_not_stripes() -> None:
    assert np.ptp(resize(checkerboard(160, 160), 32, 32)[2:-2, 2:-2].astype(int)) <= 2


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
