"""The miner `views`: pairs of one object and no others, by number where asked, and what an epoch then shows."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from reprise.config.errors import MiningError
from reprise.reading.partners import partners_of
from stages.mine.miner import Images, Mined
from stages.mine.miners.views import Views

OBJECTS, EACH = 12, 7
PATHS = [f"chair-{i // EACH:02d}/view-{10 * (i % EACH):03d}.jpg" for i in range(OBJECTS * EACH)]
GROUPS: list[str | None] = [path.split("/")[0] for path in PATHS]
ROWS = np.random.default_rng(0).normal(size=(len(PATHS), 4)).astype(np.float32)


def miner(images: Images | None = None, seed: int = 0, **options: Any) -> Views:
    return Views(Views.Params(**options), seed, images or Images(PATHS, GROUPS))


def mined(images: Images | None = None, seed: int = 0, **options: Any) -> Mined:
    return miner(images, seed, **options).mine(ROWS, None, Path())


def naive(nearest: int, farthest: int) -> set[tuple[int, int]]:
    """Pairs by a search through all images, from their paths alone."""
    found = set()
    for i, a in enumerate(PATHS):
        for j, b in enumerate(PATHS[:i]):
            (one, first), (other, second) = (path.split("/") for path in (a, b))
            gap = abs(int(first[5:8]) - int(second[5:8]))
            if one == other and nearest <= gap <= farthest:
                found.add((j, i))
    return found


def listed(found: Mined) -> set[tuple[int, int]]:
    assert found.pairs is not None
    pairs = {(min(a, b), max(a, b)) for a, b in found.pairs.rows.tolist()}
    assert len(pairs) == len(found.pairs.rows)
    return pairs


@pytest.mark.parametrize(
    ("options", "nearest", "farthest"),
    [({}, 0, 999), ({"nearest": 20}, 20, 999), ({"farthest": 10}, 1, 10), ({"nearest": 20, "farthest": 30}, 20, 30)],
)
def test_pairs_are_views_of_one_object_whose_numbers_differ_as_asked(
    options: dict[str, int], nearest: int, farthest: int
) -> None:
    found = mined(**options)
    assert listed(found) == naive(nearest, farthest)
    assert found.pairs is not None
    assert (found.clusters == -1).all()
    assert (found.pairs.weight == 1).all()
    assert set(found.pairs.kind) == {"view"}


def test_an_epoch_shows_each_view_beside_another_view_of_its_object() -> None:
    found = mined()
    assert found.pairs is not None
    partners = partners_of(found.pairs.rows, found.pairs.weight, len(PATHS))
    shown = 0
    for epoch in range(3):
        for batch in partners.batches(16, np.random.default_rng(epoch)):
            anchors, others = np.split(batch, 2)
            shown += len(anchors)
            assert [GROUPS[i] for i in anchors] == [GROUPS[i] for i in others]
            assert (anchors != others).all()
    assert shown == 3 * len(PATHS)  # every image, once an epoch


def test_two_views_with_one_number_are_no_pair_where_numbers_count() -> None:
    images = Images([f"mug/{number:04d}_{crop}.png" for number in (1, 2) for crop in (0, 1)], ["mug"] * 4)
    found = miner(images, nearest=1).mine(ROWS[:4], None, Path())
    assert listed(found) == {(0, 2), (0, 3), (1, 2), (1, 3)}
    assert len(listed(miner(images).mine(ROWS[:4], None, Path()))) == 6


def test_many_pairs_are_drawn_by_seed_and_object_alone() -> None:
    few = mined(most=5)
    assert len(listed(few)) == 5 * OBJECTS
    assert listed(few) <= naive(0, 999)
    assert listed(few) == listed(mined(most=5))
    assert listed(few) != listed(mined(most=5, seed=1))
    half = Images(PATHS[: 6 * EACH], GROUPS[: 6 * EACH])
    alone = Views(Views.Params(most=5), 0, half).mine(ROWS[: 6 * EACH], None, Path())
    assert listed(alone) == {pair for pair in listed(few) if max(pair) < 6 * EACH}


@pytest.mark.parametrize(("n", "options"), [(30_000, {}), (8_000, {"nearest": 2, "farthest": 7_000})])
def test_many_views_of_one_object_are_drawn_without_listing_their_pairs(n: int, options: dict[str, int]) -> None:
    """All 450 million pairs of 30,000 views would take 25 GB, and the 32 million of 8,000 more than 1 GB."""
    images = Images([f"mug/{i:06d}.png" for i in range(n)], ["mug"] * n)
    views = miner(images, **options)
    tracemalloc.start()
    try:
        found = views.mine(np.tile(ROWS, (n // len(ROWS) + 1, 1))[:n], None, Path())
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert found.pairs is not None
    gap = found.pairs.rows[:, 1] - found.pairs.rows[:, 0]
    assert len(listed(found)) == 1000
    assert (gap >= options.get("nearest", 1)).all() and (gap <= options.get("farthest", n)).all()
    assert gap.max() > n / 3  # from all of the film


def test_the_pairs_that_are_drawn_are_those_of_a_list_of_all() -> None:
    """In the order of the list, by the generator of the seed and the object's name."""
    import hashlib

    own = int.from_bytes(hashlib.sha256(b"chair-00").digest()[:8], "little")
    chosen = np.sort(np.random.default_rng([3, own]).choice(EACH * (EACH - 1) // 2, 5, replace=False))
    found = mined(most=5, seed=3)
    assert found.pairs is not None
    assert found.pairs.rows[:5].tolist() == np.stack(np.triu_indices(EACH, 1), axis=1)[chosen].tolist()


@pytest.mark.parametrize("number", ["1" + "0" * 25, "9" * 5000], ids=len)
def test_a_number_too_large_for_a_view_is_refused_with_its_path(number: str) -> None:
    images = Images([f"o/{number}.png", "o/1.png"], ["o", "o"])
    with pytest.raises(MiningError, match=rf"frame number of an image is too large.*o/{number[:20]}"):
        miner(images, nearest=1).mine(ROWS[:2], None, Path())
    zeros = Images([f"o/{'0' * 30}7.png", "o/9.png"], ["o", "o"])
    assert listed(miner(zeros, nearest=2).mine(ROWS[:2], None, Path())) == {(0, 1)}
    assert listed(miner(Images([f"o/{'9' * 18}.png", "o/0.png"], ["o", "o"]), nearest=1).mine(ROWS[:2], None, Path()))


def test_the_figures_count_objects_and_gaps() -> None:
    groups = [*GROUPS[:-1], "alone"]
    views = miner(Images(PATHS, groups), farthest=20)
    figures = views.figures(ROWS, views.mine(ROWS, None, Path()))
    pairs = {pair for pair in naive(1, 20) if len(PATHS) - 1 not in pair}
    gaps = {gap: sum(abs(a - b) == gap // 10 for a, b in pairs) for gap in (10, 20)}
    assert figures == {
        "objects": OBJECTS + 1,
        "same_object": 1.0,
        "without_partner": 1,
        "gaps": {str(gap): count for gap, count in gaps.items()},
    }
    assert miner().figures(ROWS, mined())["gaps"] is None


def test_images_without_a_group_take_no_part() -> None:
    groups: list[str | None] = [None if i % EACH == 0 else group for i, group in enumerate(GROUPS)]
    found = listed(mined(Images(PATHS, groups)))
    assert found == {(a, b) for a, b in naive(0, 999) if a % EACH and b % EACH}


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (Images(PATHS, [None] * len(PATHS)), {}, "no image belongs to a group.*without groups"),
        (Images(PATHS, [str(i) for i in range(len(PATHS))]), {}, "no object has two views.*84 images in 84 groups"),
        (Images(PATHS, GROUPS), {"nearest": 500}, "no object has two views that may be a pair"),
        (Images(PATHS, GROUPS), {"nearest": 1, "view": "(x)"}, r"no frame number.*Set mining\.\*\.view"),
    ],
)
def test_what_cannot_be_paired_is_refused(images: Images, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MiningError, match=message):
        mined(images, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nearest": 5, "farthest": 4}, "`nearest` is at most `farthest`"),
        ({"view": "("}, "should be a regular expression"),
        ({"view": "x"}, "a group in brackets, which is the number of the view"),
    ],
)
def test_wrong_parameters_are_sentences(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Views.Params(**options)
