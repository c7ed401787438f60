"""The artifacts that the page is made from, read once. What is missing is None or empty, never an error."""

from __future__ import annotations

from dataclasses import dataclass

from reprise.artifacts.layout import SHARDS
from reprise.artifacts.shards import INDEX, Shards
from stages.report.drawing.thumbnails import Album
from stages.report.params import ReportParams
from stages.report.readers.answers import Answers, read_answers
from stages.report.readers.comparison import Comparison, read_comparison
from stages.report.readers.images.facts import KnownFact, read_known_facts
from stages.report.readers.images.ingest import (
    Change,
    Dataset,
    Images,
    Refusal,
    read_changes,
    read_dataset,
    read_images,
    read_refusals,
)
from stages.report.readers.images.near_copies import NearCopies, read_copies
from stages.report.readers.images.validation import Check, read_checks
from stages.report.readers.inputs import Input, read_inputs
from stages.report.readers.label_sets import LabelSet, read_label_sets
from stages.report.readers.models import TrainedModel, read_models
from stages.report.readers.nearest import Nearest, read_nearest
from stages.report.readers.representations import Representations, read_representations
from stages.report.readers.runs import Run, read_runs
from stages.report.readers.shifts import ShiftedAnswers, read_shifted


@dataclass(frozen=True)
class Artifacts:
    """All parts from which sections choose (`READS`).

    Args:
        dataset: the description of the data set, from ingest.
        images: the images of the manifest, with their splits and labels.
        refusals: refused files by reason.
        changes: what was changed in images before networks see them, by kind.
        facts: what is known of images besides their class.
        near_copies: images that show the same picture in other pixels.
        checks: the expectations of validate and their results.
        album: the pixels of the images, read from the shards as they are asked for.
        models: models that are no backbones, by name and seed, from train_models.
        label_sets: label sets by name and seed, from mine.
        runs: trained runs with the figures, maps and predictions of their probes.
        shifted: which images each run answered right under a shift.
        answers: probe -> which images each run answered right, for the probes of `report.metrics`.
        nearest: nearest neighbours by every run and seed, among images that were not trained on.
        comparison: verdicts on pairs of runs, from summary.
        representations: how alike the representations of two runs are.
        inputs: the files themselves, with their hashes.
        params: the block `report` of params.yaml.
    """

    dataset: Dataset | None
    images: Images | None
    refusals: tuple[Refusal, ...] | None
    changes: tuple[Change, ...] | None
    facts: tuple[KnownFact, ...]
    near_copies: NearCopies | None
    checks: tuple[Check, ...] | None
    album: Album
    models: tuple[TrainedModel, ...]
    label_sets: tuple[LabelSet, ...]
    runs: tuple[Run, ...]
    shifted: tuple[ShiftedAnswers, ...]
    answers: dict[str, Answers]
    nearest: Nearest | None
    comparison: Comparison | None
    representations: Representations | None
    inputs: tuple[Input, ...]
    params: ReportParams


def gather(params: ReportParams) -> Artifacts:
    """Read data/ below the current folder.

    Raises:
        RepriseError: an artifact exists but is damaged; the message names it.
    """
    shards = Shards.open() if (SHARDS / INDEX).exists() else None
    comparison = read_comparison()
    dataset = read_dataset()
    runs = read_runs(comparison.order if comparison else ())
    return Artifacts(
        dataset=dataset,
        images=read_images(dataset.classes if dataset else ()),
        refusals=read_refusals(),
        changes=read_changes(shards),
        facts=read_known_facts(),
        near_copies=read_copies(),
        checks=read_checks(),
        album=Album(shards),
        models=read_models(),
        label_sets=read_label_sets(),
        runs=runs,
        shifted=read_shifted(runs),
        answers=read_answers(runs, [metric.partition(".")[0] for metric in params.metrics]),
        nearest=read_nearest(runs),
        comparison=comparison,
        representations=read_representations(),
        inputs=read_inputs(),
        params=params,
    )
