"""Guided batches: how often images of one cluster met in a batch, by run and seed.

Checked by: tests/stages/report/sections/test_sections.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.report.readers.runs import Run
from stages.report.section_registry import Absent
from stages.report.text import number, share

TITLE = "Guided batches"
ORDER = 50
READS = ("runs",)


@dataclass(frozen=True)
class Batches:
    """The batches of one run and seed.

    Args:
        run, seed, labels: the run, its seed and its label set.
        order: "guided" or "random".
        clusters: number of clusters.
        largest: images in the largest cluster.
        batches: number of batches in an epoch.
        conflicting: number of pairs of images of one cluster in one batch.
        affected: share of the images that are in such a pair.
        possible: whether zero conflicts were possible, which holds while no cluster has more images than an epoch has
            batches.
    """

    run: str
    seed: int
    labels: str
    order: str
    clusters: str
    largest: str
    batches: str
    conflicting: str
    affected: str
    possible: str


def show(runs: tuple[Run, ...]) -> dict[str, Any] | Absent:
    """Make a row for every run and seed that recorded its batches."""
    rows = batches_of(runs)
    return {"batches": rows} if rows else Absent("No run used guided batches.")


def batches_of(runs: Sequence[Run]) -> tuple[Batches, ...]:
    """Make a row for every run and seed whose config has figures on sampling."""
    rows = []
    for run in runs:
        for seed in run.seeds:
            sampling = seed.config.get("sampling")
            if isinstance(sampling, dict):
                rows.append(_batches(run.name, seed.seed, str(seed.config.get("labels") or "–"), sampling))
    return tuple(rows)


def _batches(run: str, seed: int, labels: str, sampling: Mapping[str, Any]) -> Batches:
    largest, batches, affected = sampling.get("largest"), sampling.get("batches"), sampling.get("share_affected")
    possible = "–"
    if largest is not None and batches is not None:
        possible = "yes" if largest <= batches else f"no: {largest:,} > {batches:,}"
    return Batches(
        run=run,
        seed=seed,
        labels=labels,
        order=str(sampling.get("kind") or "guided"),
        clusters=number(sampling.get("clusters")),
        largest=number(largest),
        batches=number(batches),
        conflicting=number(sampling.get("conflicting_pairs")),
        affected="–" if affected is None else share(affected, 1),
        possible=possible,
    )
