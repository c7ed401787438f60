"""Keeps: how much of each fact that made an image can be read linearly off its features?

Reads every fact that is a number, a flag or a word, and the class. All of them are put on one scale, so that they can
stand beside each other:

    number          1 - squared error / squared error of the mean             (R2 of a ridge regression)
    word, flag      1 - errors / errors of always giving train's most frequent answer   (of a linear classifier)

1 is read without an error, and 0 is what an answer without the image gives; below 0 is worse than that. A fact is
fitted on the training images of which it is known, its penalty is chosen on val, and test is scored once. What is left
out is named in the protocol: a fact that does not vary, and a word with more than `most` values, which is a name.

Source: linear decoding of known factors, as in Locatello et al. 2019 ("Challenging Common Assumptions in the
Unsupervised Learning of Disentangled Representations", ICML) and, for rotations, Garrido et al. 2023 (SIE).

Deviations: errors above the most frequent answer, where others print accuracies, whose floor differs from fact to fact.
Linear answers only: an angle over the whole circle reads badly as one number, however well it is kept.

Checked by: tests/stages/probe/factors/test_keeps.py; docs/measurements/factors.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import meaning
from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.fitting import PenaltyParams, fit
from stages.probe.probe import Figure, Probe, ProbeResult
from stages.probe.quantities import r_squared, read_quantity

if TYPE_CHECKING:
    from collections.abc import Mapping

CLASS = "class"  # the row of the manifest's labels; a fact of that name stands for itself
UNKNOWN = -1


def errors_avoided(wrong: np.ndarray, wrong_always: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return 1 - errors / errors of the constant answer.

    Args:
        wrong: (n,) booleans, of the classifier.
        wrong_always: (n,) booleans, of train's most frequent answer.
        weights: (b, n), how often each example counts; None: once.

    Returns:
        (b,) values, or (1,); NaN where the constant answer makes no error.
    """
    weights = np.ones((1, len(wrong))) if weights is None else weights
    floor = weights @ wrong_always
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(floor > 0, 1 - (weights @ wrong) / floor, np.nan)


def numbered(data: ProbeData, name: str) -> dict[str, np.ndarray]:
    """Number the values of a word or a flag by those of train.

    Returns:
        split -> (n,) int64: UNKNOWN where nothing is known, and one more number for all values that train lacks.
    """
    rows = {split: data.target(name, split).tolist() for split in ("train", "val", data.test)}
    names = sorted({value for value in rows["train"] if _is_known(value)})
    place = {value: i for i, value in enumerate(names)}
    return {
        split: np.array([place.get(v, len(names)) if _is_known(v) else UNKNOWN for v in values], dtype=np.int64)
        for split, values in rows.items()
    }


def _is_known(value: object) -> bool:
    return value is not None and value == value  # NaN is a flag of which nothing is known


class Keeps(Probe):
    """Metrics: `kept_<fact>` for each fact and `kept_class`, on one scale; `kept` (their mean)."""

    needs_labels: ClassVar[bool] = False

    class Params(PenaltyParams):
        """As all linear probes, and from how many values on a word is a name."""

        most: Annotated[
            int, Field(ge=2, le=1000), meaning("A word with more values than this in train is left out.", "values")
        ] = 50

    def run(self, data: ProbeData) -> ProbeResult:
        """Read every fact, and sum up."""
        if data.test == "train":
            return ProbeResult({}, {"note": "not run: there is no split to score"})
        kinds = {name: numbered(data, name) for name in data.facts.named("word", "flag")}
        if CLASS not in data.facts.columns and data.classes:
            kinds[CLASS] = {split: data.part(split).labels for split in ("train", "val", data.test)}
        if not data.quantities and not kinds:
            return ProbeResult({}, {"note": "not run: no fact of the images is a number, a flag or a word"})
        protocol = {"scored on": data.test_note, "confidence": f"{data.confidence:g}", "tap": BACKBONE}
        protocol["scale"] = "1: without an error; 0: as well as the mean, or the most frequent answer of train"
        metrics: dict[str, Figure] = {}
        left_out = []
        for name in [*kinds, *data.quantities]:
            found = (
                self._kind(data, name, kinds[name], protocol) if name in kinds else self._number(data, name, protocol)
            )
            if found is None:
                left_out.append(name)
            else:
                metrics[f"kept_{name}"] = found
        protocol["left out"] = ", ".join(left_out) or "no fact"
        if metrics:
            mean = float(np.mean([figure.value for figure in metrics.values()]))
            metrics["kept"] = scoring.plain(mean, len(data.part(data.test)))
        return ProbeResult(metrics, protocol)

    def _number(self, data: ProbeData, name: str, protocol: dict[str, str]) -> Figure | None:
        from reprise.measures.statistics import bootstrap

        reading = read_quantity(data, name, self.params)
        if reading is None:
            return None
        residual, target, groups, protocol[f"penalty of {name}"] = reading
        low, high = bootstrap(lambda w: r_squared(residual, target, w), len(target), groups, data.confidence)
        return Figure(float(r_squared(residual, target)[0]), low, high, len(target))

    def _kind(
        self, data: ProbeData, name: str, kinds: Mapping[str, np.ndarray], protocol: dict[str, str]
    ) -> Figure | None:
        from reprise.measures.linear import Problem
        from reprise.measures.statistics import bootstrap

        known = {split: numbers != UNKNOWN for split, numbers in kinds.items()}
        x = {split: data.features(split, BACKBONE)[rows] for split, rows in known.items()}
        y = {split: kinds[split][rows] for split, rows in known.items()}
        values = np.unique(y["train"])
        if not 2 <= len(values) <= self.params.most or len(np.unique(y[data.test])) < 2:
            return None
        fitted = fit(
            Problem(x["train"], y["train"]), x["val"], y["val"], data, self.params.penalties, self.params.penalty
        )
        protocol[f"penalty of {name}"] = fitted.notes["penalty"]
        wrong = fitted.classifier.predict(x[data.test])[0] != y[data.test]
        always = y[data.test] != np.bincount(y["train"]).argmax()
        groups = data.part(data.test).groups
        groups = None if groups is None else groups[known[data.test]]
        low, high = bootstrap(lambda w: errors_avoided(wrong, always, w), len(wrong), groups, data.confidence)
        return Figure(float(errors_avoided(wrong, always)[0]), low, high, len(wrong))
