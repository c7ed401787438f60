"""What becomes of near-copies: `source.near_copies`.

- `same_split` removes nothing: where ingest decides about splits, copies go into one split, as a group does. Splits
  that the source itself gives are never changed; copies across them are stated.
- `keep_one` refuses copies of an image that stays. Of several, the one in test stays before val, and val before train;
  then one with a label, the one with most pixels, the first by name. Copies with different labels all stay.
- `report` does nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stages.ingest.candidates.select import PRECEDENCE, Image, unit_of
from stages.ingest.near.search import Found, find_near_copies
from stages.ingest.near.sketches import SketchFile
from stages.ingest.source import Refused

Policy = Literal["report", "keep_one", "same_split"]
_LARGEST = 0.5  # share of all images that one split may be given as copies of each other


@dataclass(frozen=True)
class Settled:
    """Near-copies, and what was decided about them before images got their splits.

    Attributes:
        policy: the rule.
        pairs: images that are near-copies of each other.
        distances: of each pair.
        found: what the search says.
        kept: the images that stay.
        refused: the others.
        units: key -> the unit that decides about its split, for images that share one with their copies.
        chained: number of images that are linked by copies into one unit that is too large to be kept together.
    """

    policy: Policy
    pairs: Sequence[tuple[Image, Image]]
    distances: Sequence[float]
    found: Found
    kept: Sequence[Image]
    refused: Sequence[Refused]
    units: Mapping[str, str]
    chained: int


def settle(images: Iterable[Image], sketches: SketchFile, policy: Policy) -> Settled:
    """Find near-copies and decide about them.

    Args:
        images: without exact copies.
        sketches: their sketches.
        policy: the rule.
    """
    rows = sorted(images, key=lambda image: image.key)
    numbers = np.array([row.sketch for row in rows], np.int64)
    names = dict[str | None, int]({None: -1})
    groups = [names.setdefault(row.candidate.group, len(names)) for row in rows]
    found = find_near_copies(
        lambda places: sketches.read(numbers[places]),
        np.array([(row.facts["width"], row.facts["height"]) for row in rows], np.int64).reshape(-1, 2),
        np.array(groups, np.int64),
    )
    pairs = [(rows[i], rows[j]) for i, j in found.pairs.tolist()]
    refused = _copies_to_refuse(pairs) if policy == "keep_one" else {}
    kept = [row for row in rows if row.key not in refused]
    joined = [] if policy == "report" else [p for p in pairs if not {p[0].key, p[1].key} & refused.keys()]
    units, chained = _units(joined, kept)
    return Settled(policy, pairs, found.distances.tolist(), found, kept, list(refused.values()), units, chained)


def labels_differ(one: Image, other: Image) -> bool:
    """Return whether both images have a label, and not the same."""
    labels = one.candidate.label, other.candidate.label
    return None not in labels and labels[0] != labels[1]


def _copies_to_refuse(pairs: Sequence[tuple[Image, Image]]) -> dict[str, Refused]:
    """Choose images so that each is a copy of one that stays, and has no other label: key -> why it is refused."""
    copies: dict[str, list[Image]] = defaultdict(list)
    images: dict[str, Image] = {}
    for pair in pairs:
        for image, other in (pair, pair[::-1]):
            images[image.key] = image
            copies[image.key].append(other)
    stay: dict[str, Image] = {}
    refused: dict[str, Refused] = {}
    for image in sorted(images.values(), key=_precedence):
        kept = [stay[other.key] for other in copies[image.key] if other.key in stay and not labels_differ(image, other)]
        if not kept:
            stay[image.key] = image
            continue
        first = min(kept, key=_precedence)
        across = (first.candidate.split or "train") != (image.candidate.split or "train")
        refused[image.key] = Refused(
            image.candidate.name,
            "near_duplicate_across_splits" if across else "near_duplicate",
            f"nearly the same picture as {first.candidate.name}" + (f" of {first.candidate.split}" if across else ""),
            image.sha256,
        )
    return refused


def _precedence(image: Image) -> tuple[int, bool, int, str, str]:
    pixels = image.facts["width"] * image.facts["height"]
    candidate = image.candidate
    return PRECEDENCE.index(candidate.split), candidate.label is None, -pixels, candidate.name, image.key


def _units(pairs: Sequence[tuple[Image, Image]], images: Sequence[Image]) -> tuple[dict[str, str], int]:
    """Join the units (groups, or single images) of copies; a joined unit has the lowest name of its parts.

    Returns:
        key -> unit, where a unit was joined; and the images of a unit that was left apart because it holds most images.
    """
    parent: dict[str, str] = {}

    def root(unit: str) -> str:
        while (above := parent.setdefault(unit, unit)) != unit:
            parent[unit] = unit = parent[above]
        return unit

    for one, other in pairs:
        low, high = sorted((root(unit_of(one)), root(unit_of(other))))
        parent[high] = low
    members = Counter(root(unit_of(image)) for image in images if unit_of(image) in parent)
    chained = {unit: count for unit, count in members.items() if count > _LARGEST * len(images)}
    joined = {image.key: root(unit_of(image)) for image in images if unit_of(image) in parent}
    return {key: unit for key, unit in joined.items() if unit not in chained}, sum(chained.values())
