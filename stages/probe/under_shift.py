"""Accuracy on shifted images, for every probe whose classifier was fitted on the training images as they are.

Images of the scored split and their changed copies are pairs: the drop of each image is known, and the interval is that
of the mean drop. Images from elsewhere are others, and the interval of the difference follows from both shares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reprise.measures.statistics import bootstrap_mean, difference_of_shares, share
from stages.probe.data import Part, ProbeData, Shifted
from stages.probe.probe import Figure, ProbeResult
from stages.probe.scoring import counts_note

Predict = Callable[[np.ndarray], np.ndarray]  # (n, d) features -> (n,) predicted classes

ANSWERS = pa.schema(
    [
        pa.field("set", pa.string(), nullable=False),
        pa.field("shift", pa.string(), nullable=False),
        pa.field("severity", pa.int8(), nullable=True),  # of a corruption
        pa.field("key", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=True),
        pa.field("correct", pa.bool_(), nullable=False),
        pa.field("clean", pa.bool_(), nullable=True),  # the same image unchanged; null for images from elsewhere
    ]
)


@dataclass(frozen=True)
class Answered:
    """Which labelled images of a set were answered right.

    Args:
        shifted: the set.
        part: its n labelled images.
        correct: (n,) booleans.
        clean: (n,) booleans of the unchanged images; None for images from elsewhere.
    """

    shifted: Shifted
    part: Part
    correct: np.ndarray
    clean: np.ndarray | None


def result(data: ProbeData, predict: Predict, protocol: Mapping[str, str]) -> ProbeResult:
    """Score all sets of shifted images.

    Args:
        data: of one run.
        predict: the classifier, fitted on the training images.
        protocol: what the probe says of the classifier.

    Returns:
        `clean` on the scored split; of each set `top1_<set>` and `drop_<set>`; the mean over corruptions of each
        severity, `severity_<n>`. The table has a row for each image of each set.
    """
    part, correct = _scored(data.part(data.test), data.features(data.test), predict)
    metrics = {"clean": _share(correct, part, data.confidence)}
    answered, notes = [], {}
    for name in data.shift_names:
        shifted = data.shifted(name)
        if notes_here := " ".join(shifted.file.notes):
            notes[name] = notes_here
        if not shifted.part.labelled.any():
            notes[name] = f"{notes_here} Not scored: none of these images has a class.".strip()
            continue
        own, right = _scored(shifted.part, shifted.features, predict)
        one = Answered(shifted, own, right, correct if shifted.paired else None)
        answered.append(one)
        metrics[f"top1_{name}"] = _share(right, own, data.confidence)
        metrics[f"drop_{name}"] = _drop(one, correct, part, data.confidence)
    metrics |= by_severity(answered, data.confidence)
    note = {
        **counts_note(data),
        **protocol,
        "drop": "of the same images where they are changed, with the bootstrap of its mean; of other images the "
        "difference of two shares, with the interval that follows from theirs",
        "severities": "means over the corruptions, which are fixed: their interval is over images alone",
        **notes,
    }
    return ProbeResult(metrics, note, table=_table(answered))


def by_severity(answered: list[Answered], confidence: float) -> dict[str, Figure]:
    """Average the accuracy over the corruptions of each severity; one corruption alone is no mean."""
    severities = sorted({a.shifted.file.severity for a in answered if a.shifted.file.severity is not None})
    figures = {}
    for severity in severities:
        chosen = [a for a in answered if a.shifted.file.severity == severity]
        if len({a.shifted.file.shift for a in chosen}) < 2:
            continue
        per_image = np.mean([a.correct for a in chosen], axis=0)
        low, high = bootstrap_mean(per_image, chosen[0].part.groups, confidence)
        figures[f"severity_{severity}"] = Figure(float(per_image.mean()), low, high, len(per_image))
    return figures


def _scored(part: Part, features: np.ndarray, predict: Predict) -> tuple[Part, np.ndarray]:
    """Answer the labelled images of a part: they, and which of them were answered right."""
    known = part.labelled
    groups = None if part.groups is None else part.groups[known]
    labelled = Part(part.keys[known], part.labels[known], groups)
    return labelled, predict(features[known]) == labelled.labels


def _share(correct: np.ndarray, part: Part, confidence: float) -> Figure:
    return Figure(float(correct.mean()), *share(correct, part.groups, confidence), len(part))


def _drop(one: Answered, clean: np.ndarray, part: Part, confidence: float) -> Figure:
    """Return by how much the accuracy falls, which is negative where it rises."""
    if one.clean is not None:
        differences = one.clean.astype(np.float64) - one.correct
        low, high = bootstrap_mean(differences, one.part.groups, confidence)
        return Figure(float(differences.mean()), low, high, len(differences))
    before, after = _share(clean, part, confidence), _share(one.correct, one.part, confidence)
    low, high = difference_of_shares(before.value, (before.low, before.high), after.value, (after.low, after.high))
    return Figure(before.value - after.value, low, high, len(one.part))


def _table(answered: list[Answered]) -> pa.Table:
    """Write a row for each image of each set."""
    tables = [ANSWERS.empty_table()]
    for one in answered:
        n, file, groups = len(one.part), one.shifted.file, one.part.groups
        columns = [
            [file.name] * n,
            [file.shift] * n,
            [file.severity] * n,
            one.part.keys,
            [None] * n if groups is None else [str(group) for group in groups],
            one.correct,
            [None] * n if one.clean is None else one.clean,
        ]
        arrays = [pa.array(values, kind.type) for values, kind in zip(columns, ANSWERS, strict=True)]
        tables.append(pa.Table.from_arrays(arrays, schema=ANSWERS))
    return pa.concat_tables(tables).combine_chunks()
