"""A share of the images: how many, which, and that smaller ones lie within larger ones."""

from __future__ import annotations

import numpy as np
import pytest

from reprise.reading.share import images_in, positions_in

KEYS = np.array([f"image-{number}" for number in range(1000)])


@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.999, 1.0])
def test_as_many_images_as_the_share_says_in_their_order(share: float) -> None:
    found = positions_in(share, KEYS)
    assert len(found) == images_in(share, 1000) == round(1000 * share)
    assert (np.diff(found) > 0).all()


def test_a_smaller_share_is_part_of_a_larger_one_in_any_order() -> None:
    tenth, third = (set(KEYS[positions_in(share, KEYS)]) for share in (0.1, 0.3))
    assert tenth < third
    shuffled = np.random.default_rng(0).permutation(KEYS)
    assert set(shuffled[positions_in(0.1, shuffled)]) == tenth


def test_a_share_is_drawn_from_all_of_them() -> None:
    """The mean position of a tenth lies within five standard errors of the middle."""
    assert abs(positions_in(0.1, KEYS).mean() - 499.5) < 5 * 1000 / 12**0.5 / 100**0.5


def test_one_image_is_always_left() -> None:
    assert images_in(0.1, 3) == 1
    assert positions_in(0.001, KEYS[:3]).tolist() in ([0], [1], [2])
