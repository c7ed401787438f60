"""The parameters of every run and the protocol of its probes, with the rows first in which runs differ.

Checked by: tests/stages/report/sections/test_sections.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.report.readers.runs import Run
from stages.report.section_registry import Absent
from stages.report.text import one_line

TITLE = "Parameters"
ORDER = 100
READS = ("runs",)

# Entries of config.json in which a run records its choices for null and `auto`.
_RESOLVED = ("views", "options", "learning_rate_scaled", "stem", "pooling", "taps", "precision", "device", "threads")


@dataclass(frozen=True)
class Setting:
    """A parameter or a choice of a probe, by run.

    Args:
        path: the dotted name.
        values: the value of each run; a dash where a run lacks it.
        probe: the probe that made the choice; empty for parameters of training.
    """

    path: str
    values: tuple[str, ...]
    probe: str = ""

    @property
    def differs(self) -> bool:
        """Whether two runs differ."""
        return len(set(self.values)) > 1


def show(runs: tuple[Run, ...]) -> dict[str, Any] | Absent:
    """List every parameter and every choice of a probe, by run."""
    parameters, protocol = settings_of(runs), protocol_of(runs)
    if not parameters and not protocol:
        return Absent("No run has written its parameters, and no probe has written its protocol.")
    return {"parameters": parameters, "protocol": protocol, "run_names": [run.name for run in runs]}


def settings_of(runs: Sequence[Run]) -> tuple[Setting, ...]:
    """List every parameter that any run used; those that differ between runs come first."""
    by_run = [dict(flatten(_used(run.first.config))) for run in runs]
    paths = list(dict.fromkeys(path for values in by_run for path in values))
    rows = [Setting(path, tuple(values.get(path, "–") for values in by_run)) for path in paths]
    return tuple(sorted(rows, key=lambda row: (not row.differs, row.path)))


def protocol_of(runs: Sequence[Run]) -> tuple[Setting, ...]:
    """List every choice of every probe, by probe and name, from protocol.json."""
    by_run = [
        {(probe, path): value for probe, raw in run.first.protocol.items() for path, value in flatten(raw)}
        for run in runs
    ]
    paths = sorted({path for values in by_run for path in values})
    return tuple(
        Setting(path, tuple(values.get((probe, path), "–") for values in by_run), probe) for probe, path in paths
    )


def flatten(value: object, prefix: str = "") -> list[tuple[str, str]]:
    """Flatten nested parameters to (dotted path, value), in their order; texts are bounded."""
    if isinstance(value, Mapping) and value:
        return [
            row
            for key in value
            for row in flatten(value[key], f"{prefix}.{one_line(key)}" if prefix else one_line(key))
        ]
    if isinstance(value, bool) or value is None:
        return [(prefix, {True: "true", False: "false", None: "null"}[value])]
    return [(prefix, one_line(value, 200))]


def _used(config: Mapping[str, Any]) -> dict[str, Any]:
    """Join the run's rows of params.yaml and its choices for nulls and `auto`s."""
    written = config.get("parameters")
    resolved = {name: config[name] for name in _RESOLVED if config.get(name) not in (None, {})}
    return {**(written if isinstance(written, Mapping) else {}), **({"resolved": resolved} if resolved else {})}
