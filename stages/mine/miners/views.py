"""`views`: other views of the same object, as pairs: all images of a group, or those whose numbers lie as asked.

Source: Yu et al., "MVImgNet: A Large-scale Dataset of Multi-view Images", CVPR 2023 (multi-view positives); Garrido et
al., "Self-supervised learning of Split Invariant Equivariant representations", ICML 2023 (pairs with known rotations).
No code of either was used.

Idea: photographs of one object from several sides are positives that no change of a view could make. The groups of the
manifest say what belongs together (`mini3d` and `multiview`: the object; a folder: `group: folder`). Nothing is guessed
from features: a pair is wrong only where a group is. With `nearest` or `farthest`, the number in an image's path is
that of its view, and only pairs count whose numbers differ by so much: neighbouring frames of a film are nearly the
same picture, and opposite sides may have nothing in common.

All pairs weigh 1. An object of v views has v (v - 1) / 2 of them; of more than `most`, a part is drawn by the seed, the
same whatever other objects there are. Images get no cluster. `quality.json` counts objects, pairs and images without a
partner, and pairs by the difference of their numbers.

Deviations: the range of angles of MVImgNet's pairs is one of numbers here, because facts such as poses reach no miner.
The features only serve to be refused where they are broken.

Legend: n images, v views of an object, p pairs.

Checked by: tests/stages/mine/test_views.py; docs/measurements/factors.md.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from reprise.config.errors import MiningError
from reprise.config.params import StrictModel, meaning
from reprise.config.texts.text_forms import wrong_value
from stages.mine.frames import FRAME, number_pattern, numbered_frames
from stages.mine.miner import Images, Mined, Miner, Pairs, check_features

_FARTHEST = 1_000_000


class ViewsParams(StrictModel):
    """Parameters of `views`."""

    nearest: Annotated[
        int | None,
        Field(ge=1, le=_FARTHEST),
        meaning("The numbers of two views differ by at least this; null: they need no numbers.", "views"),
    ] = None
    farthest: Annotated[
        int | None,
        Field(ge=1, le=_FARTHEST),
        meaning("The numbers of two views differ by at most this; null: any two may be a pair.", "views"),
    ] = None
    most: Annotated[
        int, Field(ge=1, le=1_000_000), meaning("An object has at most this many pairs, drawn by the seed.", "pairs")
    ] = 1000
    view: Annotated[
        str,
        meaning("The first group of this regular expression, found in an image's path, is the number of its view."),
    ] = FRAME

    @field_validator("view")
    @classmethod
    def _an_expression(cls, value: str) -> str:
        return number_pattern(value, "view")

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.nearest is not None and self.farthest is not None and self.nearest > self.farthest:
            raise wrong_value("`nearest` is at most `farthest`")
        return self


class Views(Miner):
    """Views of one object."""

    Params = ViewsParams
    makes_pairs = True
    params: ViewsParams

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Pair the images of each group.

        Raises:
            MiningError: no groups, no group with two such views, paths without the numbers that are asked for.
        """
        check_features(features, "mining")
        found = [np.empty((0, 2), np.int64)]
        for name, (members, numbers) in self._objects().items():
            first, last = _later(numbers, self.params.nearest, self.params.farthest)
            found.append(members[_listed(first, last, self._drawn(name, int((last - first).sum())))])
        rows = np.concatenate(found)
        if not len(rows):
            raise MiningError(
                "no object has two views that may be a pair",
                where="mining",
                found=f"{len(features):,} images in {len(self._objects()):,} groups",
                fix="Give the source groups of several images, or widen nearest and farthest.",
            )
        kind, ones = np.full(len(rows), "view", dtype=object), np.ones(len(rows))
        pairs = Pairs(rows, ones.astype(np.float32), kind, ones.astype(np.int64))
        return Mined(np.full(len(features), -1, dtype=np.int64), pairs=pairs)

    def figures(self, features: np.ndarray, mined: Mined) -> dict[str, Any]:
        """Count objects, images without a partner, and pairs by the difference of their numbers where these count."""
        assert mined.pairs is not None
        rows, objects = mined.pairs.rows, self._objects()
        own = np.full(len(features), -1, dtype=np.int64)
        number = np.zeros(len(features), dtype=np.int64)
        for position, (members, numbers) in enumerate(objects.values()):
            own[members], number[members] = position, numbers
        gaps = Counter(np.abs(number[rows[:, 0]] - number[rows[:, 1]]).tolist())
        return {
            "objects": len(objects),
            "same_object": float((own[rows[:, 0]] == own[rows[:, 1]]).mean()),
            "without_partner": len(features) - len(np.unique(rows)),
            "gaps": {str(gap): count for gap, count in sorted(gaps.items())} if self._numbered else None,
        }

    @property
    def _numbered(self) -> bool:
        return self.params.nearest is not None or self.params.farthest is not None

    def _objects(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """List for each group the rows of its images, in ascending order, and the numbers of their views."""
        if self._numbered:
            listed = {}
            for name, views in numbered_frames(self.images, self.params.view, "mining", "view").items():
                rows = list(views.values())
                listed[name] = np.concatenate(rows), np.repeat(list(views), [len(part) for part in rows])
            return listed
        grouped: dict[str, list[int]] = defaultdict(list)
        for row, group in enumerate(_groups(self.images)):
            if group is not None:
                grouped[group].append(row)
        if not grouped:
            raise MiningError(
                "no image belongs to a group",
                where="mining",
                found="a manifest without groups",
                fix="This miner needs objects with several views: the sources `mini3d` and `multiview` give them; with "
                "images in folders, set source.options.group: folder.",
            )
        return {name: (np.array(rows), np.zeros(len(rows), np.int64)) for name, rows in sorted(grouped.items())}

    def _drawn(self, name: str, pairs: int) -> np.ndarray:
        """Draw the numbers of at most `most` of an object's pairs, by the seed and the object's name, ascending."""
        if pairs <= self.params.most:
            return np.arange(pairs)
        own = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "little")
        rng = np.random.default_rng([self.seed, own])
        return np.sort(rng.choice(pairs, self.params.most, replace=False))


def _groups(images: Images | None) -> list[str | None]:
    return [] if images is None else images.groups


def _later(numbers: np.ndarray, nearest: int | None, farthest: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return which views pair with each view of an object: those from (v,) up to, and without, (v,).

    Each pair is counted once, at its earlier view. No pair is listed, so memory grows with v and not with its square.

    Args:
        numbers: (v,) of the views, ascending; all the same where they do not count.
        nearest, farthest: bounds of the difference; None for none.
    """
    v = len(numbers)
    if nearest is None and farthest is None:
        return np.arange(1, v + 1), np.full(v, v)
    first = np.searchsorted(numbers, numbers + (nearest or 1), side="left")
    last = np.full(v, v) if farthest is None else np.searchsorted(numbers, numbers + farthest, side="right")
    return first, last


def _listed(first: np.ndarray, last: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """List the pairs of these numbers, as positions of their views: (p,) -> (p, 2).

    Args:
        first, last: (v,) as `_later` returns them; pairs are numbered by the earlier view, then by the later one.
        wanted: (p,) numbers from 0.
    """
    ends = np.cumsum(last - first)
    earlier = np.searchsorted(ends, wanted, side="right")
    later = last[earlier] - (ends[earlier] - wanted)
    return np.stack([earlier, later], axis=1)
