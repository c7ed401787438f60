"""Near-copies are found, and nothing else: on pictures, on what resembles pictures, and on what is meant to be hard."""

from __future__ import annotations

import numpy as np
import pytest

from reprise.media.image.inspect import inspect_pages
from reprise.media.image.sketch import SIDE, sketch
from reprise.media.modality import Limits
from stages.ingest.near.candidates import candidate_pairs
from stages.ingest.near.limit import COPY, copy_limit
from stages.ingest.near.search import Found, find_near_copies
from stages.ingest.near.spectrum import COEFFICIENTS, WEIGHTS, closest, coefficients, detail, distances
from tests.stages.ingest.hostile import encoded
from tests.stages.ingest.photographs import FOUND, NOT_FOUND, as_bytes, cropped, marked, moved, photograph

PICTURES = [photograph(seed) for seed in range(160)]


def sketches_of(images: list[np.ndarray]) -> np.ndarray:
    return np.stack([np.frombuffer(sketch(image), np.uint8).reshape(SIDE, SIDE) for image in images])


def search(images: list[np.ndarray], groups: list[int] | None = None) -> Found:
    found = sketches_of(images)
    sizes = np.array([image.shape[1::-1] for image in images])
    return find_near_copies(lambda rows: found[rows], sizes, np.array(groups or [-1] * len(images)))


def search_sketches(sketches: np.ndarray) -> Found:
    n = len(sketches)
    return find_near_copies(lambda rows: sketches[rows], np.full((n, 2), SIDE), np.full(n, -1))


# ---- copies are found, and only copies ---------------------------------------------------------------------------


@pytest.mark.parametrize("change", sorted(FOUND))
def test_nearly_all_copies_of_each_promised_kind_are_found_and_nothing_else(change: str) -> None:
    copies = [FOUND[change](picture) for picture in PICTURES[:80]]
    found = {(i, j) for i, j in search(PICTURES + copies).pairs.tolist()}
    planted = {(i, len(PICTURES) + i) for i in range(len(copies))}
    assert len(found & planted) >= 0.95 * len(planted)
    assert found <= planted


@pytest.mark.parametrize("change", sorted(NOT_FOUND))
def test_what_is_not_promised_is_not_taken_for_a_copy(change: str) -> None:
    assert len(search(PICTURES + [NOT_FOUND[change](picture) for picture in PICTURES[:80]]).pairs) == 0


def test_some_small_crops_and_marks_are_found_and_none_is_promised() -> None:
    for change in (lambda p: cropped(p, 0.03), marked):
        found = {(i, j) for i, j in search(PICTURES + [change(p) for p in PICTURES[:80]]).pairs.tolist()}
        assert found <= {(i, len(PICTURES) + i) for i in range(80)}
        assert len(found) >= 8


def test_copies_of_large_pictures_are_found_after_a_shift_of_three_per_cent() -> None:
    pictures = [photograph(seed, 200, 160) for seed in range(40)]
    found = search(pictures + [moved(picture, 6, -5) for picture in pictures])
    assert {(i, 40 + i) for i in range(40)} == {(i, j) for i, j in found.pairs.tolist()}


def test_a_picture_of_another_aspect_is_not_a_copy() -> None:
    tall = [FOUND["another size"](p)[:, : p.shape[1] // 2] for p in PICTURES[:5]]
    stretched = [as_bytes(np.repeat(p, 2, axis=0)) for p in PICTURES[:5]]
    assert len(search([*PICTURES, *tall, *stretched]).pairs) == 0


def test_a_copy_of_twelve_bits_is_found() -> None:
    deep = [(p[:, :, 0].astype(np.uint16) << 4) for p in PICTURES[:20]]
    shallow = [p[:, :, 0] for p in PICTURES]
    files = [encoded(image, "PNG") for image in shallow] + [encoded(image, "PNG") for image in deep]
    found = np.stack(
        [
            np.frombuffer(inspect_pages(data, "a", Limits(10**6, 1))[0].sketch, np.uint8).reshape(SIDE, SIDE)
            for data in files
        ]
    )
    pairs = search_sketches(found).pairs.tolist()
    assert pairs == [[i, len(shallow) + i] for i in range(20)]


# ---- what could be mistaken, and what could blow up ---------------------------------------------------------------


def flat(rng: np.random.Generator) -> np.ndarray:
    return np.clip(rng.integers(0, 256) + rng.integers(-1, 2, (SIDE, SIDE)), 0, 255).astype(np.uint8)


def gradient(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    angle, low, high = rng.uniform(0, 2 * np.pi), *np.sort(rng.uniform(0, 255, 2))
    ramp = np.cos(angle) * x + np.sin(angle) * y
    return as_bytes(low + (high - low) * (ramp - ramp.min()) / np.ptp(ramp))


def stripe(rng: np.random.Generator) -> np.ndarray:
    """What is left of a picture that is one pixel wide."""
    return np.repeat(rng.integers(0, 256, (SIDE, 1)), SIDE, axis=1).astype(np.uint8)


@pytest.mark.parametrize("make", [flat, gradient])
def test_flat_images_and_gradients_are_no_copies_however_many(make: object) -> None:
    rng = np.random.default_rng(0)
    found = search_sketches(np.stack([make(rng) for _ in range(1000)]))  # type: ignore[operator]
    assert (len(found.pairs), found.alike, found.unrecognisable) == (0, 0, 1000)


def test_black_images_and_lines_of_pixels_are_no_copies() -> None:
    rng = np.random.default_rng(0)
    images = [np.zeros((h, w, 3), np.uint8) for h, w in ((9, 9), (20, 20), (32, 32), (300, 300))]
    images += [rng.integers(0, 256, (1, 60, 3)).astype(np.uint8) for _ in range(20)]
    images += [np.full((40, 40, 3), value, np.uint8) for value in (0, 128, 255)]
    found = search(images)
    assert (len(found.pairs), found.unrecognisable) == (0, len(images))


def test_hundreds_of_stripes_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    assert len(search_sketches(np.stack([stripe(rng) for _ in range(300)])).pairs) == 0


def test_thousands_of_nearly_identical_images_take_bounded_work_and_are_all_linked() -> None:
    one, n = sketches_of(PICTURES[:1])[0], 2000
    rng = np.random.default_rng(0)
    many = np.clip(one[None].astype(int) + rng.integers(-2, 3, (n, SIDE, SIDE)), 0, 255).astype(np.uint8)
    pairs = candidate_pairs(lambda rows: many[rows], np.arange(n), np.full(n, -1))
    assert len(pairs) <= 36 * n
    root = np.arange(n)
    for i, j in pairs.tolist():
        root[root == root[j]] = root[i]
    assert len(np.unique(root)) == 1


def blob(rng: np.random.Generator) -> np.ndarray:
    """A round blob on black: one of a family in which many are alike, as digits are."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    top, left, high, wide = (*rng.uniform(8, 24, 2), *rng.uniform(3, 8, 2))
    return as_bytes(255 * np.exp(-(((y - top) / high) ** 2) - ((x - left) / wide) ** 2))


def test_where_unlike_images_are_near_each_other_the_limit_is_lower() -> None:
    rng = np.random.default_rng(0)
    blobs = np.stack([blob(rng) for _ in range(500)])
    found = search_sketches(blobs)
    assert found.limit < COPY / 5
    assert len(found.pairs) < found.alike / 10
    assert search(PICTURES).limit == COPY


def test_ten_copies_of_every_picture_do_not_lower_the_limit() -> None:
    kinds = [FOUND[name] for name in sorted(FOUND)[:10]]
    found = search([kind(picture) for kind in kinds for picture in PICTURES[:40]])
    assert found.limit == COPY
    assert len(found.pairs) > 0.9 * 40 * 45


def test_few_images_have_the_full_limit() -> None:
    assert copy_limit(sketches_of(PICTURES[:10]), np.full(10, -1), 10) == COPY


def test_images_of_one_group_are_not_compared() -> None:
    copies = [FOUND["grey"](picture) for picture in PICTURES[:4]]
    assert search(PICTURES[:4] + copies, [0, 1, 2, 3, 0, 1, 3, -1]).pairs.tolist() == [[2, 6], [3, 7]]


# ---- the formulas --------------------------------------------------------------------------------------------------


def test_coefficients_are_those_of_a_cosine_transform_of_the_window() -> None:
    from scipy.fft import dctn

    images = sketches_of(PICTURES[:5])
    squares = np.arange(8)[:, None] ** 2 + np.arange(8)[None] ** 2
    kept = (squares > 0) & (squares < 7.5**2)
    for down, right in ((0, 0), (2, -2), (-2, 0)):
        window = images[:, 2 + down // 2 : 30 + down // 2, 2 + right // 2 : 30 + right // 2].astype(float)
        expected = dctn(window, axes=(1, 2))[:, :8, :8][:, kept] / 16  # scipy's is four times the plain sum
        assert np.abs(coefficients(images, down, right) - expected).max() < 0.005 * np.abs(expected).max()
    assert (np.array_equal(WEIGHTS, squares[kept]), COEFFICIENTS) == (True, kept.sum())


def test_distances_ignore_brightness_and_contrast_and_see_a_shift() -> None:
    images = sketches_of(PICTURES[:20])
    values = coefficients(images)
    assert distances(values, values).max() < 1e-12
    assert distances(values, 0.5 * values).max() < 1e-12
    weighted = values * np.sqrt(WEIGHTS)
    cosine = (weighted[:10] * weighted[10:]).sum(1)
    cosine /= np.linalg.norm(weighted[:10], axis=1) * np.linalg.norm(weighted[10:], axis=1)
    assert distances(values[:10], values[10:]) == pytest.approx(1 - cosine)
    shifted = np.roll(images, (1, -1), axis=(1, 2))
    assert closest(images, shifted).max() < 1e-12 < distances(values, coefficients(shifted)).min()


def test_values_are_whole_numbers_that_any_order_of_adding_gives() -> None:
    values = coefficients(np.full((1, SIDE, SIDE), 255, np.uint8) * (np.indices((SIDE, SIDE)).sum(0) % 2 == 0))
    assert np.array_equal(values, np.rint(values))
    worst = coefficients(sketches_of([as_bytes(255.0 * (PICTURES[0] > 128))]))
    assert float((worst * worst * WEIGHTS).sum()) < 2**53


def test_richness_tells_a_gradient_from_a_picture() -> None:
    rng = np.random.default_rng(0)
    strength, plain = detail(coefficients(np.stack([gradient(rng) for _ in range(200)])))
    plain = plain[strength > 500]  # rounding makes the picture in those with few shades, which are faint
    _, rich = detail(coefficients(sketches_of(PICTURES)))
    assert plain.max() < 3 < np.quantile(rich, 0.02)


def test_candidates_hold_what_a_comparison_of_all_with_all_finds() -> None:
    pictures = PICTURES[:60]
    sketches = sketches_of(pictures + [FOUND["JPEG of a darker, shifted one"](p) for p in pictures])
    i, j = np.triu_indices(len(sketches), 1)
    near = closest(sketches[i], sketches[j]) <= COPY
    pairs = {(a, b) for a, b in zip(i[near].tolist(), j[near].tolist(), strict=True)}
    found = candidate_pairs(lambda rows: sketches[rows], np.arange(len(sketches)), np.full(len(sketches), -1))
    assert len(pairs) >= 58
    assert len(pairs & {(a, b) for a, b in found.tolist()}) >= 0.98 * len(pairs)
    assert len(found) < 0.05 * len(i)
