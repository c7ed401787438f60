"""Pictures stay within their budget of bytes, tiny ones keep their pixels, and bytes are the same every time."""

from __future__ import annotations

import base64
from typing import cast

import cv2
import numpy as np
import pytest

from reprise.artifacts.shards import Shards
from reprise.config.errors import ImageRefused
from stages.report.drawing.thumbnails import SIDES, Album, Picture, montage


class Store:
    """Stands for shards: keys and encoded images."""

    modality = "image"

    def __init__(self, images: dict[str, np.ndarray]) -> None:
        self.keys = np.array(list(images), dtype=object)
        self._data = [cv2.imencode(".png", image)[1].tobytes() for image in images.values()]

    def read(self, row: int) -> bytes:
        return self._data[row]


def album(images: dict[str, np.ndarray]) -> Album:
    return Album(cast(Shards, Store(images)))


def decoded(picture: Picture) -> np.ndarray:
    data = base64.b64decode(picture.uri.split(",", 1)[1])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def noise(count: int, side: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f"{i:04}": rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for i in range(count)}


def test_tiny_images_keep_every_pixel() -> None:
    images = noise(3, 8)
    found = album(images).pictures(images, 10**6)
    for key, image in images.items():
        assert found[key].crisp
        np.testing.assert_array_equal(decoded(found[key]), image)


@pytest.mark.parametrize("budget", [10**7, 300_000, 100_000])
def test_large_images_shrink_until_they_fit(budget: int) -> None:
    images = noise(40, 150)
    found = album(images).pictures(images, budget)
    side = max(p.width for p in found.values())
    assert side in SIDES
    assert not any(p.crisp for p in found.values())
    assert sum(len(p.uri) for p in found.values()) <= budget
    assert (side == SIDES[0]) == (budget == 10**7)


def test_a_sprite_holds_image_i_in_cell_i_and_fits() -> None:
    images = {f"{i:04}": np.full((10, 10, 3), 2 * i, np.uint8) for i in range(90)}
    keys = [*images, "absent"]
    sprite = album(images).sprite(keys, 10**6)
    assert sprite is not None
    sheet = decoded(sprite.picture)
    for i in range(len(images)):
        top, left = i // sprite.columns * sprite.side, i % sprite.columns * sprite.side
        assert sheet[top + 5, left + 5, 0] == 2 * i
    assert album(images).sprite(["absent"], 10**6) is None
    large = noise(200, 100)
    small = album(large).sprite(list(large), 200_000)
    assert small is not None
    assert len(small.picture.uri) <= 200_000


def test_a_montage_is_cut_and_shrunk_to_its_budget() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3000, 600, 3), dtype=np.uint8)
    picture, cut = montage(cv2.imencode(".png", image)[1].tobytes(), "montage.png", 150_000)
    assert cut
    assert len(picture.uri) <= 150_000
    with pytest.raises(ImageRefused):
        montage(b"no image", "montage.png", 1000)


def test_same_pixels_same_bytes() -> None:
    images = noise(5, 120)
    assert album(images).pictures(images, 10**6) == album(images).pictures(images, 10**6)


def test_without_shards_nothing_has_a_picture() -> None:
    empty = Album(None)
    assert "key" not in empty
    assert empty.pictures(["key"], 1000) == {}
    assert empty.sprite(["key"], 1000) is None
