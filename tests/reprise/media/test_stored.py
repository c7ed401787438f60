"""The stored form of images: bytes kept, or scaled down and compressed without loss, within a bound known before."""

from __future__ import annotations

import numpy as np
import pytest

from reprise.media.image.decode import decode
from reprise.media.image.encode import lossless_png
from reprise.media.image.stored import largest_stored_bytes, stored_form, stored_size
from reprise.media.lookup import modality
from reprise.media.modality import Limits
from tests.reprise.media.test_transform import triangle
from tests.stages.ingest.hostile import PNG, encoded, photo, rotated


@pytest.mark.parametrize(
    ("size", "expected"), [((10, 20), (10, 20)), ((128, 64), (64, 32)), ((1, 6400), (1, 64)), ((65, 65), (64, 64))]
)
def test_the_longer_side_decides(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert stored_size(*size, max_side=64) == expected


def test_the_upper_bound_holds_for_noise() -> None:
    for channels in (1, 3):
        noise = np.random.default_rng(1).integers(0, 256, (181, 173, channels), dtype=np.uint8)
        row = {"plain": False, "width": 173, "height": 181, "channels": channels}
        assert len(lossless_png(noise)) <= largest_stored_bytes(row, 512)
    assert largest_stored_bytes({"plain": True, "width": 10, "height": 10, "bytes": 12345}, 512) == 12345


def test_plain_bytes_are_kept_and_others_become_plain() -> None:
    media = modality()
    limits = Limits(10**6, 1)
    facts = media.inspect(PNG, "x", limits)[0].facts
    assert stored_form(PNG, "x", facts, 512).data is PNG
    turned = rotated(6, seed=7)
    stored = stored_form(turned, "x", media.inspect(turned, "x", limits)[0].facts, 512)
    assert stored.extension == "png"
    assert np.array_equal(decode(stored.data, "x", 3, plain=True), decode(turned, "x", 3))
    assert media.inspect(stored.data, "x", limits)[0].facts["plain"]


def test_what_is_too_large_is_scaled_before_it_is_stored() -> None:
    data = encoded(photo(8, 60, 30), "PNG")
    stored = stored_form(data, "x", modality().inspect(data, "x", Limits(10**6, 1))[0].facts, 20)
    assert (stored.width, stored.height) == (10, 20)
    assert np.abs(decode(stored.data, "x", 3) - triangle(photo(8, 60, 30), 10, 20)).max() <= 1
