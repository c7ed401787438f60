"""Facts beside an image: what is refused, and that they decode and follow an image that is scaled down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reprise.config.errors import ImageRefused
from reprise.media.image.sides import decode_side, encode_side, largest_side_bytes, scaled_side

MASK = np.zeros((20, 30), np.uint8)
MASK[5:10, 6:18] = 3
FLOW = np.stack(np.meshgrid(np.arange(30), np.arange(20)), axis=-1).astype(np.float32)
BOXES = [(6, 5, 18, 10), (0, 0, 30, 20)]


@pytest.mark.parametrize(("kind", "value"), [("mask", MASK), ("flow", FLOW), ("boxes", BOXES), ("pose", [1, -0.5, 0])])
def test_facts_decode_as_they_were(kind: str, value: Any) -> None:
    data = encode_side(kind, value, 30, 20, "x")
    assert data == encode_side(kind, value, 30, 20, "x")
    np.testing.assert_array_equal(decode_side(kind, data, "x"), np.asarray(value))
    assert scaled_side(kind, data, (30, 20), (30, 20), "x") is data


def test_no_boxes_are_a_fact_too() -> None:
    assert decode_side("boxes", encode_side("boxes", [], 30, 20, "x"), "x").shape == (0, 4)


def test_facts_follow_an_image_that_is_scaled_down() -> None:
    def scaled(kind: str, value: Any) -> np.ndarray:
        data = encode_side(kind, value, 30, 20, "x")
        small = scaled_side(kind, data, (30, 20), (15, 10), "x")
        assert len(small) <= largest_side_bytes(len(data))
        return decode_side(kind, small, "x")

    mask = scaled("mask", MASK)
    assert mask.shape == (10, 15)
    assert set(np.unique(mask)) == {0, 3}
    assert abs(int((mask == 3).sum()) - 15) <= 3  # a quarter of 60
    assert scaled("boxes", BOXES).tolist() == [[3, 2.5, 9, 5], [0, 0, 15, 10]]
    flow = scaled("flow", FLOW)
    np.testing.assert_allclose(flow[4, 7], [7.5, 4.5], atol=0.51)  # a pixel's motion, halved
    np.testing.assert_array_equal(scaled("pose", [1.0, 2.0]), [1, 2])


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("mask", MASK[:19], r"a mask is an array of uint8 of the image's size, \(20, 30\).*shape \(19, 30\)"),
        ("mask", MASK.astype(np.int64), "uint8.*int64"),
        ("mask", MASK.tolist(), "list"),
        ("flow", FLOW.astype(np.float64), "float32.*float64"),
        ("flow", np.full_like(FLOW, np.inf), "finite numbers"),
        ("boxes", [(0, 0, 31, 5)], r"inside its image of 30 x 20 pixels.*\[0.0, 0.0, 31.0, 5.0\]"),
        ("boxes", [(-1, 0, 3, 5)], "inside its image"),
        ("boxes", [(5, 0, 5, 5)], "x0 < x1"),
        ("boxes", [(0, 0, 3)], "rows of four numbers"),
        ("boxes", [(0, 0, float("nan"), 5)], "finite numbers"),
        ("boxes", "here", "consists of numbers"),
        ("pose", [], "1 to 1000 numbers"),
        ("pose", [[1.0]], "1 to 1000 numbers"),
        ("pose", ["north"], "consists of numbers"),
    ],
)
def test_what_does_not_fit_is_refused(kind: str, value: Any, message: str) -> None:
    with pytest.raises(ImageRefused, match=message):
        encode_side(kind, value, 30, 20, "x")


@pytest.mark.parametrize(
    ("kind", "data"), [("mask", b"no png"), ("flow", b"no npy"), ("boxes", b"[1, 2"), ("pose", b"x")]
)
def test_damaged_members_are_refused(kind: str, data: bytes) -> None:
    with pytest.raises(ImageRefused, match="undecodable"):
        decode_side(kind, data, "x")
