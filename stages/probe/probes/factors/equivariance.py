"""Equivariance: can the rotation between two views of an object be read from their features, and do features follow it?

Reads poses from four numbers of each image, a unit quaternion, and objects from the groups of the manifest. Two
questions of all pairs of views of one object:

    read off   g = first^-1 second, w >= 0, by ridge regression on both features and all products of their leading
               directions, since the rotation between two poses is bilinear in them: `r2`
    follow     the features of the second view, predicted as sum over k of  g_k (M_k first + c_k)  (a linear
               hypernetwork, as in `sie`; c_k because features are centred): where does the second view rank, by
               cosine, among the other views of its object? `mrr` is the mean of 1 / rank, `hit<k>` the share of ranks
               up to k

`mrr_identity` ranks by the first features themselves, unturned. Both are fitted on objects of train, penalties are
chosen on val, and test is scored once. The last share `tail` of the features, where `sie` keeps what turns, is judged
alone as well (`_tail`), and so is the rest (`_head`). r2 is 1 - the squared error over the variance of the four numbers
together; invariant features have about 0, and so has any answer that does not look at them.

Source: Garrido, Najman, LeCun, "Self-supervised learning of Split Invariant Equivariant representations", ICML 2023.

Deviations: the paper reads rotations off by a network of three layers, here a closed form does it; its predictor is the
one that was trained with the features, here one is fitted for every run, so that runs without one can be compared. The
release's r2 compares with one mean of all four numbers, which answers of each number's own mean beat; here each number
has its own. The release starts at the first view only and counts it among those that are ranked; here all views are
starts, and a start is no candidate, so that the identity is not right by construction. Equal similarities share a rank.

Legend: n images, p pairs, d features, k directions.

Checked by: tests/stages/probe/factors/test_equivariance.py; docs/measurements/factors.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from reprise.config.params import meaning
from reprise.config.texts.text_forms import with_pattern
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.fitting import PenaltyParams, may_choose
from stages.probe.probe import Figure, Probe, ProbeResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FactName = Annotated[
    str, with_pattern(r"[a-z][a-z0-9_]{0,47}", "a fact has a name of lower-case letters, digits and underscores")
]
HITS = (1, 5, 10)
_MOST = 256  # directions that are followed
# The inputs of a pair are up to 2 * 256 + 64^2 numbers, or 37 kB; three splits and the fit hold five times as many.
_MOST_PAIRS = 20_000
_UNIT = 1e-3  # a quaternion's length differs from 1 by at most this


class Split(NamedTuple):
    """Images of one split whose pose is known, and pairs of views of one object.

    Attributes:
        features: (n, d) float64.
        groups: (n,) int64, the object of each.
        pairs: (p, 2) int64, rows of two different views of one object.
        rotations: (p, 4) between them, w >= 0.
    """

    features: np.ndarray
    groups: np.ndarray
    pairs: np.ndarray
    rotations: np.ndarray


class Equivariance(Probe):
    """Metrics: `r2`, `mrr`, `mrr_identity`, `hit1`, `hit5`, `hit10`, and the same of `_tail` and `_head`."""

    needs_labels: ClassVar[bool] = False
    needs_targets: ClassVar[bool] = True

    class Params(PenaltyParams):
        """Parameters of `equivariance`."""

        quaternion: Annotated[
            list[FactName],
            Field(min_length=4, max_length=4),
            meaning("These facts are the numbers w, x, y, z of an image's pose."),
        ] = Field(default_factory=lambda: ["pose_w", "pose_x", "pose_y", "pose_z"])
        frame: Annotated[
            Literal["object", "camera"],
            meaning("The rotation between two views is stated in the axes of the object or in those of the camera."),
        ] = "object"
        tail: Annotated[
            float,
            Field(ge=0, lt=1),
            meaning("The last features, this share of all, and the others are judged by themselves too; 0: not."),
        ] = 0.5
        pairs: Annotated[
            int, Field(ge=50, le=_MOST_PAIRS), meaning("At most this many pairs of each split are looked at.", "pairs")
        ] = 4000
        directions: Annotated[
            int,
            Field(ge=1, le=64),
            meaning("Products of this many leading directions of both features are read.", "directions"),
        ] = 24

    def run(self, data: ProbeData) -> ProbeResult:
        """Fit on train, choose on val, score test."""
        if reason := self._why_not(data):
            return ProbeResult({}, {"note": f"not run: {reason}"})
        splits = {name: self._split(data, name) for name in ("train", "val", data.test)}
        short = [name for name in ("train", data.test) if len(splits[name].pairs) < 2]
        if short:
            return ProbeResult({}, {"note": f"not run: {short[0]} has no two views of one object with poses"})
        why_not = may_choose(data, len(splits["val"].pairs))
        penalties = self.params.penalties if why_not is None else [self.params.penalty]
        protocol = {
            "tap": BACKBONE,
            "scored on": data.test_note,
            "pairs": ", ".join(f"{name} {len(split.pairs)}" for name, split in splits.items()),
            "objects": ", ".join(f"{name} {len(np.unique(split.groups))}" for name, split in splits.items()),
            "rotation": f"in the axes of the {self.params.frame}, w >= 0",
            "penalties": "chosen on val" if why_not is None else f"not chosen ({why_not})",
            "interval": "bootstrap over objects",
        }
        metrics: dict[str, Figure] = {}
        for suffix, part in self._parts(splits["train"].features.shape[1]).items():
            seen = {name: split._replace(features=split.features[:, part]) for name, split in splits.items()}
            figures, notes = self._judged(seen, data, penalties)
            metrics |= {f"{name}{suffix}": figure for name, figure in figures.items()}
            protocol |= {f"{name}{suffix}": note for name, note in notes.items()}
        return ProbeResult(metrics, protocol)

    def _why_not(self, data: ProbeData) -> str | None:
        """Say why the data do not allow the probe; None where they do."""
        if missing := [name for name in self.params.quaternion if name not in data.quantities]:
            return f"no fact '{missing[0]}' is a number of each image"
        if data.test == "train":
            return "there is no split to score"
        if data.part("train").groups is None:
            return "no image belongs to a group, so no two views are of one object"
        lengths = np.linalg.norm(np.concatenate([self._poses(data, split) for split in ("train", data.test)]), axis=1)
        far = np.abs(lengths[~np.isnan(lengths)] - 1)
        return "the poses are no unit quaternions" if len(far) and far.max() > _UNIT else None

    def _poses(self, data: ProbeData, split: str) -> np.ndarray:
        return np.stack([data.target(name, split) for name in self.params.quaternion], axis=1)

    def _parts(self, d: int) -> dict[str, slice]:
        """Name the parts of the features by the suffix of their figures."""
        tail = min(max(1, round(self.params.tail * d)), d - 1) if self.params.tail and d > 1 else 0
        return {"": slice(None), **({"_tail": slice(d - tail, d), "_head": slice(0, d - tail)} if tail else {})}

    def _split(self, data: ProbeData, name: str) -> Split:
        """Take the images whose pose is known, and draw pairs of them."""
        from reprise.measures.geometry.quaternions import between

        poses, groups = self._poses(data, name), data.part(name).groups
        known = ~np.isnan(poses).any(axis=1)
        assert groups is not None
        poses, groups, x = poses[known], groups[known], data.features(name, BACKBONE)[known].astype(np.float64)
        pairs = view_pairs(groups, self.params.pairs)
        return Split(x, groups, pairs, between(poses[pairs[:, 0]], poses[pairs[:, 1]], self.params.frame))

    def _judged(
        self, splits: dict[str, Split], data: ProbeData, penalties: Sequence[float]
    ) -> tuple[dict[str, Figure], dict[str, str]]:
        """Answer both questions of one part of the features."""
        from reprise.measures.statistics import bootstrap, bootstrap_mean

        whitening = Whitening(splits["train"].features)
        z = {name: whitening(split.features) for name, split in splits.items()}
        test = splits[data.test]
        objects = test.groups[test.pairs[:, 0]]
        reading = {name: products(z[name], splits[name].pairs, self.params.directions) for name in splits}
        rotation = {name: split.rotations for name, split in splits.items()}
        answers, chosen = _fitted(reading, rotation, data.test, penalties, intercept=True)
        squared = ((answers - test.rotations) ** 2).sum(axis=1)

        def share(weights: np.ndarray) -> np.ndarray:
            return r_squared(squared, test.rotations, weights)

        low, high = bootstrap(share, len(squared), objects, data.confidence)
        figures = {"r2": Figure(float(share(np.ones((1, len(squared))))[0]), low, high, len(squared))}
        inputs = {name: turned(z[name][splits[name].pairs[:, 0]], rotation[name]) for name in splits}
        targets = {name: z[name][splits[name].pairs[:, 1]] for name in splits}
        predicted, followed = _fitted(inputs, targets, data.test, penalties, intercept=False)
        starts = z[data.test][test.pairs[:, 0]]
        for name, guesses in (("mrr", predicted), ("mrr_identity", starts)):
            rank, rivals = ranks(guesses, z[data.test], test.groups, test.pairs)
            scores = {name: 1 / rank}
            if name == "mrr":
                scores |= {f"hit{k}": (rank <= k).astype(float) for k in HITS if k < rivals.max()}
            for figure, values in scores.items():
                low, high = bootstrap_mean(values, objects, data.confidence)
                figures[figure] = Figure(float(values.mean()), low, high, len(values))
        return figures, {
            "directions": f"{z[data.test].shape[1]}",
            "penalty of r2": f"{chosen:g}",
            "penalty of mrr": f"{followed:g}",
            "candidates": f"{rivals.min():.0f} to {rivals.max():.0f} other views of the object",
            "mrr by chance": f"{np.mean([np.mean(1 / np.arange(1, n + 1)) for n in rivals]):.4f}",
        }


def _fitted(
    x: dict[str, np.ndarray], y: dict[str, np.ndarray], test: str, penalties: Sequence[float], intercept: bool
) -> tuple[np.ndarray, float]:
    """Fit on train with the penalty of the least error on val: the answers on test, and the penalty."""
    from reprise.measures.ridge import ridge_path

    best: tuple[float, float] | None = None
    answers = np.empty(0)
    for penalty, weights, bias in ridge_path(x["train"], y["train"], penalties, intercept):
        error = float(((x["val"] @ weights + bias - y["val"]) ** 2).mean()) if len(penalties) > 1 else 0.0
        if best is None or (error, -penalty) < best:  # on equal errors the stronger penalty
            best, answers = (error, -penalty), x[test] @ weights + bias
    assert best is not None
    return answers, -best[1]


class Whitening:
    """Centre features and divide their principal directions by their spread, as measured on training images.

    Args:
        x: (n, d); directions with next to no spread are left out, and at most _MOST are kept.
    """

    def __init__(self, x: np.ndarray) -> None:
        self._mean = x.mean(axis=0)
        values, axes = np.linalg.eigh(np.cov((x - self._mean).T, bias=True).reshape(x.shape[1], x.shape[1]))
        kept = np.argsort(-values)[:_MOST]
        kept = kept[values[kept] > 1e-9 * max(float(values.max()), 1e-300)]
        self._axes = axes[:, kept] / np.sqrt(values[kept])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, k)."""
        return np.asarray((x - self._mean) @ self._axes)


def view_pairs(groups: np.ndarray, most: int) -> np.ndarray:
    """List pairs of different rows of one group in both orders, or draw `most` of them: (p, 2).

    Pairs are drawn by their numbers, so memory does not grow with the square of a group.
    """
    order = np.argsort(groups, kind="stable")
    sizes = np.array([len(rows) for rows in _members(groups)], dtype=np.int64)
    starts, ends = np.cumsum(sizes) - sizes, np.cumsum(sizes * (sizes - 1))
    total = int(ends[-1]) if len(ends) else 0
    if total <= most:
        wanted = np.arange(total)
    else:
        wanted = np.sort(np.random.default_rng(0).choice(total, most, replace=False))
    group = np.searchsorted(ends, wanted, side="right")
    others = sizes[group] - 1
    first, second = np.divmod(wanted - (ends[group] - sizes[group] * others), others)
    second += second >= first  # no row is paired with itself
    return np.stack([order[starts[group] + first], order[starts[group] + second]], axis=1)


def _members(groups: np.ndarray) -> Iterator[np.ndarray]:
    order = np.argsort(groups, kind="stable")
    if len(order):
        yield from np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def products(z: np.ndarray, pairs: np.ndarray, directions: int) -> np.ndarray:
    """Put both features of each pair and all products of their first `directions` side by side: (p, 2 k + m^2)."""
    first, second = z[pairs[:, 0]], z[pairs[:, 1]]
    bilinear = first[:, :directions, None] * second[:, None, :directions]
    return np.concatenate([first, second, bilinear.reshape(len(pairs), -1)], axis=1)


def turned(first: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Multiply (p, k) features, and 1, by each number of (p, 4) rotations: (p, 4 (k + 1)), inputs of a predictor."""
    with_one = np.concatenate([first, np.ones((len(first), 1))], axis=1)
    return (rotations[:, :, None] * with_one[:, None, :]).reshape(len(first), -1)


def r_squared(squared: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (b,) shares of the variance of (p, 4) targets that are explained; NaN where they do not vary.

    Args:
        squared: (p,) squared errors, summed over the four numbers.
        target: (p, 4).
        weights: (b, p) how often each pair counts.
    """
    total = weights.sum(axis=1)
    spread = weights @ (target**2).sum(axis=1) / total - ((weights @ target / total[:, None]) ** 2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 1e-12, 1 - (weights @ squared / total) / spread, np.nan)


def ranks(guesses: np.ndarray, z: np.ndarray, groups: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank the second view of each pair by its cosine with the guess, among all views of its object but the first.

    Args:
        guesses: (p, k) of the second views.
        z: (n, k) features of all views.
        groups: (n,).
        pairs: (p, 2).

    Returns:
        (p,) ranks from 1, in which equal similarities share the mean of their ranks; (p,) numbers of candidates.
    """
    from reprise.measures.unit_vectors import unit

    guesses, z = unit(guesses, np.float64), unit(z, np.float64)
    rank, rivals = np.empty(len(pairs)), np.empty(len(pairs))
    where: dict[Any, np.ndarray] = {groups[rows[0]]: rows for rows in _members(groups)}
    own = groups[pairs[:, 0]]
    for chosen in _members(own):
        views = where[own[chosen[0]]]
        similarity = guesses[chosen] @ z[views].T
        candidate = views[None, :] != pairs[chosen, :1]
        right = views[None, :] == pairs[chosen, 1:]
        wanted = similarity[right][:, None]
        above = (candidate & (similarity > wanted)).sum(axis=1)
        equal = (candidate & ~right & (similarity == wanted)).sum(axis=1)
        rank[chosen], rivals[chosen] = 1 + above + equal / 2, len(views) - 1
    return rank, rivals
