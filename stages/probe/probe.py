"""The protocol of probes: the base class, and what a probe returns.

A probe is one file under `probes/<suite>/` with one subclass of `Probe`. The parameters of all probes are checked
before anything runs, so a probe imports torch, scipy and sklearn inside its functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from reprise.config.params import StrictModel

if TYPE_CHECKING:
    import pyarrow as pa

    from stages.probe.data import ProbeData


@dataclass(frozen=True)
class Figure:
    """A metric with its interval over examples.

    Args:
        value: of the metric.
        low: lower end of the interval, None where no interval can be given.
        high: upper end, likewise.
        n: number of examples.
    """

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class ProbeResult:
    """Figures of one probe, and how they came about.

    Args:
        metrics: metric -> figure; empty where the data do not allow the probe.
        protocol: every choice made, in words or numbers, so that the figure can be repeated and judged.
        predictions: rows of PREDICTIONS_SCHEMA (reprise/artifacts/results.py) on test; `correct` averages to `top1`.
        table: anything else, one row per example or class; written as `<probe>.parquet`.
    """

    metrics: dict[str, Figure]
    protocol: dict[str, str]
    predictions: pa.Table | None = None
    table: pa.Table | None = None


class Probe(ABC):
    """A measurement on frozen embeddings. The file's name is the probe's name.

    Every choice is made on train and val; the test split is scored once.

    Attributes:
        needs_labels: whether the probe is left out, with a note in its protocol, where there are no labels.
        needs_augmented: likewise where no features of changed images were written.
        needs_shifted: likewise where there are no shifted images.
        needs_targets: whether the probe reads targets.csv and leaves itself out, with a note, where there is none.
    """

    needs_labels: ClassVar[bool] = False
    needs_augmented: ClassVar[bool] = False
    needs_shifted: ClassVar[bool] = False
    needs_targets: ClassVar[bool] = False

    class Params(StrictModel):
        """Override with the probe's own."""

    def __init__(self, params: Any) -> None:
        self.params = params

    @abstractmethod
    def run(self, data: ProbeData) -> ProbeResult:
        """Measure; the same data and parameters must give the same bytes."""
