"""Turn predicted labels into the figures and tables that all classification probes report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from reprise.artifacts.results import PREDICTIONS_SCHEMA
from reprise.config.errors import printable
from reprise.measures.statistics import FEWEST_UNITS, NO_INTERVAL, bootstrap, share
from stages.probe.data import Part
from stages.probe.probe import Figure

if TYPE_CHECKING:
    from stages.probe.data import ProbeData


def labelled(data: ProbeData, split: str, tap: str) -> tuple[Part, np.ndarray]:
    """Return the images of a split that have a label, and their (n, d) features at a tap."""
    part = data.part(split)
    known = part.labelled
    groups = None if part.groups is None else part.groups[known]
    return Part(part.keys[known], part.labels[known], groups), data.features(split, tap)[known]


def top1(part: Part, predicted: np.ndarray, confidence: float) -> Figure:
    """Return the share of right answers with its interval: Wilson, or Korn and Graubard where groups exist."""
    correct = predicted == part.labels
    low, high = share(correct, part.groups, confidence)
    return Figure(float(correct.mean()), low, high, len(part))


def balanced_accuracy(part: Part, predicted: np.ndarray, confidence: float) -> Figure:
    """Return the share of right answers in a class, averaged over the classes that occur; bootstrap interval.

    There is no interval where a class has fewer than FEWEST_UNITS images: the spread of its recall cannot be seen.
    """
    _, index = np.unique(part.labels, return_inverse=True)
    c, correct = int(index.max()) + 1, predicted == part.labels
    copies = None
    if part.groups is None:  # examples of one class with one outcome are interchangeable
        cell, copies = np.unique(index * 2 + correct, return_counts=True)
        index, correct = cell // 2, cell % 2 == 1
    membership = np.zeros((len(index), c))
    membership[np.arange(len(index)), index] = 1.0

    def mean_recall(weights: np.ndarray) -> np.ndarray:
        drawn, right = weights @ membership, (weights * correct) @ membership
        recall = np.where(drawn > 0, right / np.maximum(drawn, 1), np.nan)
        return np.nanmean(recall, axis=1)

    low, high = NO_INTERVAL
    if np.bincount(np.unique(part.labels, return_inverse=True)[1]).min() >= FEWEST_UNITS:
        low, high = bootstrap(mean_recall, len(index), part.groups, confidence, copies=copies)
    whole = np.ones(len(index)) if copies is None else copies.astype(np.float64)
    return Figure(float(mean_recall(whole[None])[0]), low, high, len(part))


def plain(value: float, n: int) -> Figure:
    """Return a figure of n examples for which no interval can be given."""
    return Figure(value, None, None, n)


def over_draws(part: Part, correct: np.ndarray, confidence: float) -> Figure:
    """Return the accuracy averaged over several classifiers on the same examples.

    The interval's bootstrap draws examples (or groups) and classifiers anew, both at once.

    Args:
        part: the n examples.
        correct: (draws, n) booleans; each draw is a classifier of its own.
        confidence: of the interval.
    """
    draws, n = correct.shape
    values = correct.astype(np.float64)
    rng = np.random.default_rng(0)
    widened = (draws / max(1, draws - 1)) ** 0.5  # a bootstrap of few units is too narrow by this factor

    def mean(weights: np.ndarray) -> np.ndarray:
        chosen = rng.multinomial(draws, np.full(draws, 1 / draws), size=len(weights)) / draws
        chosen = 1 / draws + widened * (chosen - 1 / draws)
        return ((chosen @ values) * weights).sum(1) / weights.sum(1)

    low, high = bootstrap(mean, n, part.groups, confidence)
    return Figure(float(values.mean()), low, high, n)


def recalls(part: Part, predicted: np.ndarray, classes: tuple[str, ...], confidence: float) -> pa.Table:
    """Return a row per class that occurs: class, recall, low, high, n, predicted (how often it was answered)."""
    rows = []
    for label in np.unique(part.labels).tolist():
        own = part.labels == label
        correct = predicted[own] == label
        low, high = share(correct, None if part.groups is None else part.groups[own], confidence)
        rows.append(
            {
                "class": classes[label],
                "recall": float(correct.mean()),
                "low": low,
                "high": high,
                "n": int(own.sum()),
                "predicted": int((predicted == label).sum()),
            }
        )
    kinds = [pa.string(), pa.float64(), pa.float64(), pa.float64(), pa.int64(), pa.int64()]
    names = ("class", "recall", "low", "high", "n", "predicted")
    return pa.Table.from_pylist(rows, pa.schema(list(zip(names, kinds, strict=True))))


def predictions(part: Part, predicted: np.ndarray, scores: np.ndarray, classes: tuple[str, ...]) -> pa.Table:
    """Return rows of PREDICTIONS_SCHEMA; a group is named by its number, equal in all runs of one manifest."""
    names = np.asarray(classes, dtype=object)
    return pa.table(
        {
            "key": pa.array(part.keys, pa.string()),
            "label": pa.array(names[part.labels], pa.string()),
            "predicted": pa.array(names[predicted], pa.string()),
            "correct": pa.array(predicted == part.labels, pa.bool_()),
            "score": pa.array(scores.astype(np.float32), pa.float32()),
            "group": pa.array(
                [None] * len(part) if part.groups is None else [str(g) for g in part.groups], pa.string()
            ),
        },
        schema=PREDICTIONS_SCHEMA,
    )


def counts_note(data: ProbeData) -> dict[str, str]:
    """Return the protocol of every labelled probe: how many images, which are left out, and what counts as an error."""
    note = {"scored on": data.test_note, "confidence": f"{data.confidence:g}"}
    for split in ("train", "val", "test"):
        part = data.part(split)
        known = int(part.labelled.sum())
        left = f" ({len(part) - known} without label left out)" if known < len(part) else ""
        note[f"{split} images"] = f"{known}{left}"
    train, test = (set(data.part(s).labels.tolist()) - {-1} for s in ("train", data.test))
    if test - train:
        names = ", ".join(data.classes[i] for i in sorted(test - train)[:5])
        note["classes absent from train"] = f"{len(test - train)} ({names}): every such test image counts as an error"
    if len(train) == 1:
        note["single class"] = "train has one class: it is always the answer"
    note["interval"] = _interval_note(data.part(data.test))
    return note


def _interval_note(part: Part) -> str:
    if part.groups is None:
        return f"Wilson for shares, bootstrap otherwise; none for means over classes of under {FEWEST_UNITS} images"
    count = len(np.unique(part.groups))
    if count < FEWEST_UNITS:
        return f"none: the images come from {count} groups, and an interval needs {FEWEST_UNITS}"
    return "Korn and Graubard for shares, bootstrap over groups otherwise"


def targets_note(data: ProbeData, names: list[str]) -> dict[str, str]:
    """Return the protocol entries of every probe on flags and numbers."""
    note = {"scored on": data.test_note, "confidence": f"{data.confidence:g}"}
    for split in dict.fromkeys(("train", "val", data.test)):
        known = [int((~np.isnan(data.target(name, split))).sum()) for name in names]
        note[f"{split} images"] = f"{min(known)} to {max(known)} with a value, of {len(data.part(split))}"
    if data.facts.unmatched:
        examples = ", ".join(map(printable, data.facts.examples))
        note["rows of targets.csv that name no image"] = f"{data.facts.unmatched} (for instance {examples})"
    note["interval"] = "bootstrap over groups" if data.part(data.test).groups is not None else "bootstrap over images"
    return note


def why_not(data: ProbeData) -> str | None:
    """Return why a labelled probe cannot run on these data, or None if it can."""
    if not data.classes:
        return "not run: no image has a label"
    if not data.part("train").labelled.any():
        return "not run: no training image has a label"
    if data.test == "train":
        return "not run: there is neither a test nor a val split to score"
    if not data.part(data.test).labelled.any():
        return f"not run: no image of the {data.test} split has a label"
    return None
