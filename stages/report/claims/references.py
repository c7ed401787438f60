"""Which runs of the page are references, and which were pretrained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reprise.artifacts.budgets import trains
from reprise.config.tables import TRUTH
from stages.report.readers.runs import Run

UNTRAINED, SUPERVISED, PUBLISHED = "random", "supervised", "published"  # methods that are references
_ORDER = (UNTRAINED, PUBLISHED, SUPERVISED)


def reference_words(config: Mapping[str, Any]) -> str:
    """Say what a run is a reference for; empty for a run that is none."""
    if config.get("method") == UNTRAINED:
        return "the untrained network"
    if config.get("method") == PUBLISHED:
        return "the published weights"
    if config.get("method") == SUPERVISED and config.get("labels") == TRUTH:
        return "training on the true labels"
    return ""


def reference_runs(runs: Sequence[Run]) -> list[Run]:
    """List the references: untrained, published, supervised."""
    found = [run for run in runs if reference_words(run.first.config)]
    return sorted(found, key=lambda run: _ORDER.index(str(run.first.config["method"])))


def pretrained_runs(runs: Sequence[Run]) -> list[Run]:
    """List the runs that were trained and are no reference."""
    return [run for run in runs if trains(run.first.config) and not reference_words(run.first.config)]
