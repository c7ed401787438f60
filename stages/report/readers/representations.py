"""How alike the representations of runs are: one square of figures a metric, from data/representations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprise.artifacts import layout
from stages.report.readers.shape import expected_shape, read_object

COMPARISON = layout.REPRESENTATIONS / "representations.json"


@dataclass(frozen=True)
class Square:
    """One metric of one probe on all pairs of encoders.

    Args:
        probe: the probe.
        metric: the metric.
        caption: one clause that says how to read a cell.
        names: names of the encoders, each a run and seed.
        values: the figure of (row, column); None where two encoders cannot be compared.
    """

    probe: str
    metric: str
    caption: str
    names: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Representations:
    """The comparison of all encoders.

    Args:
        squares: one for each metric of each probe; none where no probe could run.
        overall: (probe, metric, value) of figures over all pairs.
        protocol: (probe, entry, value) of the choices that the probes made.
    """

    squares: tuple[Square, ...]
    overall: tuple[tuple[str, str, float], ...]
    protocol: tuple[tuple[str, str, str], ...]


def read_representations(path: Path = COMPARISON) -> Representations | None:
    """Read the comparison of all encoders; None when there is none.

    Raises:
        ResultError: the file is damaged or of another shape.
    """
    raw = read_object(path, "representations")
    if not raw:
        return None
    with expected_shape(path, "representations"):
        names = tuple(str(encoder["name"]) for encoder in raw["encoders"])
        squares, overall, protocol = [], [], []
        for probe, result in raw["probes"].items():
            overall += [(probe, metric, float(value)) for metric, value in result["overall"].items()]
            protocol += [(probe, entry, str(value)) for entry, value in result["protocol"].items()]
            for metric, rows in result["metrics"].items():
                values = tuple(tuple(_figure(v) for v in row) for row in rows)
                if {len(values), *map(len, values)} != {len(names)}:
                    raise ValueError(f"{probe}.{metric} is not a square of {len(names)} encoders")
                squares.append(Square(probe, metric, str(result["caption"]), names, values))
    return Representations(tuple(squares), tuple(overall), tuple(protocol))


def _figure(value: Any) -> float | None:
    return None if value is None else float(value)
