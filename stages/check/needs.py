"""What each training needs of a machine, for whoever runs several at once; no output depends on it."""

from __future__ import annotations

from typing import Any

from reprise.config.errors import RepriseError
from reprise.config.shared_sections import DEFAULT_CACHE, cache_params
from reprise.training.memory import PROCESS
from stages.check.rules.machine import estimate
from stages.check.sketches import Sketch, sketch_runs


def training_needs(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return for each run the memory in bytes that its training takes at most, its device, and its processes.

    Args:
        raw: the content of params.yaml, in which nothing is wrong.
    """
    try:
        held = cache_params(raw).memory_bytes
    except RepriseError:
        held = DEFAULT_CACHE.memory_bytes
    return {sketch.row.name: _needs(sketch, held) for sketch in sketch_runs(raw)[0]}


def _needs(sketch: Sketch, held: int) -> dict[str, Any]:
    processes = 1 if sketch.footprint is None else sketch.train.processes
    if sketch.footprint is None or sketch.train.device == "cuda":  # the memory of a GPU is not shared with others
        memory = PROCESS + held
    else:
        memory = estimate(sketch, held).peak
    return {"memory": memory * processes, "device": sketch.train.device, "processes": processes}
