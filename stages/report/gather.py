"""Reads every artifact that the page shows into one typed value. What is missing is None or empty, never an error."""

from __future__ import annotations

from reprise.artifacts.shards import DIRECTORY, INDEX, Shards
from stages.report.between import read_between
from stages.report.comparison import read_comparison
from stages.report.gather_data import gather_data
from stages.report.gather_runs import gather_label_sets, gather_runs
from stages.report.lineage import inputs
from stages.report.page import Artifacts
from stages.report.thumbnails import Album


def gather() -> Artifacts:
    """Read data/ below the current folder.

    Raises:
        RepriseError: an artifact is there but damaged; the message names it.
    """
    shards = Shards.open() if (DIRECTORY / INDEX).exists() else None
    comparison = read_comparison()
    return Artifacts(
        data=gather_data(),
        label_sets=gather_label_sets(),
        runs=gather_runs(comparison.order if comparison else ()),
        comparison=comparison,
        inputs=inputs(),
        album=Album(shards),
        between=read_between(),
    )
