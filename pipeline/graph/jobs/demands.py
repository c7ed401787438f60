"""What each stage needs of a machine, and how long it is expected to take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.graph.definition import Graph
from pipeline.graph.jobs.machine import Demand
from pipeline.graph.running.time_left import expected_seconds_of
from reprise.artifacts.layout import NEEDS, PARAMS
from reprise.config.dvc_file import Stage
from reprise.config.params import read_yaml

_MEMORY = 1 << 30  # bytes of a stage that trains no run: Python, torch and a few arrays
_OF_A_TRAINING, _OF_OTHERS = 20.0, 2.0  # seconds, where nothing is known; only their proportion matters
TRAININGS = frozenset({"pretrain", "adapt"})  # of a run; `stages.check` estimates what they need
_OTHER_TRAININGS = frozenset({"train_models", "probe_images"})
_WITHOUT_GPU = frozenset(
    {"check", "ingest", "validate", "shard", "facts", "given_labels", "models", "shift_images", "summary", "report"}
)


def demands_of(stages: Sequence[Stage], root: Path) -> dict[str, Demand]:
    """Return what stages need, by name.

    A training gets GPUs of its own, if there are any. Whatever else may compute on a GPU shares one, since it takes
    seconds.

    Args:
        stages: the stages.
        root: the project folder.
    """
    needs: Any = {}
    with suppress(OSError, ValueError):
        needs = json.loads((root / NEEDS).read_text(encoding="utf-8"))
    params = read_yaml(root / PARAMS)
    return {stage.name: _demand(stage, needs if isinstance(needs, Mapping) else {}, params) for stage in stages}


def _demand(stage: Stage, needs: Mapping[str, Any], params: Mapping[str, Any]) -> Demand:
    if stage.entry in TRAININGS:
        need = needs.get(stage.values[0], {})
        processes = int(need.get("processes", 1))
        on_gpu = need.get("device", _device("train", params)) != "cpu"
        return Demand(int(need.get("memory", _MEMORY)), gpus=processes if on_gpu else 0, places=processes)
    if stage.entry in _OTHER_TRAININGS:
        return Demand(_MEMORY, gpus=int(_device("train", params) != "cpu"))
    on_gpu = stage.entry not in _WITHOUT_GPU and _device("embed" if "embed" in stage.params else "", params) != "cpu"
    return Demand(_MEMORY, shares_gpu=on_gpu)


def _device(section: str, params: Mapping[str, Any]) -> str:
    block = params.get(section)
    return str(block.get("device", "auto")) if isinstance(block, Mapping) else "auto"


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
