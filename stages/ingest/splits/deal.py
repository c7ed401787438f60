"""Deal images out in exact shares, from each class or from all together. Groups are dealt whole."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Short = list[tuple[str | None, int]]  # classes with too few units, and how many each has


class Unit(NamedTuple):
    """What is dealt whole: an image, a group, or images that are nearly the same.

    Attributes:
        name: tells it from all others.
        size: number of its images.
        label: the class of most of them; None without one, or where classes do not matter.
    """

    name: str
    size: int
    label: str | None


def deal_share(units: Sequence[Unit], fraction: float, order: Mapping[str, float]) -> tuple[set[str], Short]:
    """Choose units so that each class gives the share of its images, as nearly as whole images and groups allow.

    The number of images over all classes is right, too: what is lost by rounding goes to the classes that lost most. A
    class with several units gives at least one, and keeps at least one.

    Args:
        units: all of them.
        fraction: the share.
        order: of each unit, in which they are dealt.

    Returns:
        the chosen units, and the classes that have a single unit, which stays where it is.
    """
    classes = _by_class(units)
    quotas = _quotas({label: sum(unit.size for unit in own) for label, own in classes.items()}, fraction)
    chosen: set[str] = set()
    short: Short = []
    for label, own in classes.items():
        if len(own) == 1:
            short.append((label, 1))
            continue
        dealt = 0
        ordered = sorted(own, key=lambda unit: (order[unit.name], unit.name))
        for number, unit in enumerate(ordered[:-1]):
            if number and abs(dealt + unit.size - quotas[label]) >= abs(dealt - quotas[label]):
                continue  # a group that is too large for the rest of the share; a later one may fit
            chosen.add(unit.name)
            dealt += unit.size
    return chosen, short


def deal_folds(units: Sequence[Unit], folds: int, order: Mapping[str, float]) -> tuple[dict[str, int], Short]:
    """Deal units into folds with equal parts of each class: the largest first, each into the fold that has least.

    Args:
        units: all of them.
        folds: their number.
        order: of units of one size, in which they are dealt.

    Returns:
        unit -> fold, and the classes that have fewer units than there are folds.
    """
    found: dict[str, int] = {}
    short: Short = []
    totals = [0] * folds
    for label, own in _by_class(units).items():
        if len(own) < folds:
            short.append((label, len(own)))
        held = [0] * folds
        for unit in sorted(own, key=lambda unit: (-unit.size, order[unit.name], unit.name)):
            fold = min(range(folds), key=lambda i: (held[i], totals[i], i))
            found[unit.name] = fold
            held[fold] += unit.size
            totals[fold] += unit.size
    return found, short


def _by_class(units: Sequence[Unit]) -> dict[str | None, list[Unit]]:
    classes: dict[str | None, list[Unit]] = defaultdict(list)
    for unit in units:
        classes[unit.label].append(unit)
    return dict(sorted(classes.items(), key=lambda item: (item[0] is None, item[0] or "")))


def _quotas(sizes: Mapping[str | None, int], fraction: float) -> dict[str | None, int]:
    """Round the shares of all classes so that their sum is the rounded share of all images."""
    exact = {label: fraction * size for label, size in sizes.items()}
    quotas = Counter({label: math.floor(share + 1e-9) for label, share in exact.items()})
    missing = round(fraction * sum(sizes.values())) - sum(quotas.values())
    ranked = sorted(exact, key=lambda label: (quotas[label] - exact[label], label is None, label or ""))
    for label in ranked[: max(0, missing)]:
        quotas[label] += 1
    return dict(quotas)
