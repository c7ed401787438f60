"""What each stage needs of a machine, and how long it is expected to take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.graph.definition import Graph
from pipeline.graph.jobs.machine import Demand
from pipeline.graph.running.time_left import expected_seconds_of
from reprise.config.dvc_file import Stage

_OF_A_TRAINING, _OF_OTHERS = 20.0, 2.0  # seconds, where nothing is known; only their proportion matters


def demands_of(stages: Sequence[Stage], root: Path) -> dict[str, Demand]:
    """Return what stages need, by name."""
    return {}


def expected_seconds(stages: Sequence[Stage], graph: Graph, root: Path) -> dict[str, float]:
    """Return how long stages took the last time, by name; those of a kind that never ran count by rule of thumb.

    Args:
        stages: the stages.
        graph: the graph.
        root: the project folder.
    """
    seconds = {}
    for stage in stages:
        known = expected_seconds_of(stage, graph, root)
        seconds[stage.name] = known or (_OF_A_TRAINING if "train" in stage.params else _OF_OTHERS)
    return seconds
