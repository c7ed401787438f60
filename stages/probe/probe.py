"""What a probe is given and what it returns. A probe is one file under `probes/<group>/` with one subclass of `Probe`.

Light imports only: parameters of all probes are checked before anything runs, so a probe imports torch, sklearn and
`reprise.measures` inside `run`.
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
    """A metric: value, both ends of its interval over examples (None: no interval can be given), examples counted."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class ProbeResult:
    """What one probe found.

    Args:
        metrics: metric -> figure. Flat names; empty where the data do not allow the probe.
        protocol: every choice made, in words or numbers, so that the figure can be repeated and judged.
        predictions: rows of PREDICTIONS_SCHEMA (reprise/artifacts/results.py) on test; `correct` averages to `top1`.
        table: anything else, one row an example or a class; written as `<probe>.parquet`.
    """

    metrics: dict[str, Figure]
    protocol: dict[str, str]
    predictions: pa.Table | None = None
    table: pa.Table | None = None


class Probe(ABC):
    """A measurement on frozen embeddings. The file's name is the probe's name.

    Every choice is made on train and val; the test split is scored once.
    """

    needs_labels: ClassVar[bool] = False  # without labels such a probe is not run, and its protocol says so
    needs_augmented: ClassVar[bool] = False  # features of changed images, likewise

    class Params(StrictModel):
        """Override with the probe's own."""

    def __init__(self, params: Any) -> None:
        self.params = params

    @abstractmethod
    def run(self, data: ProbeData) -> ProbeResult:
        """Measure. Same data, same parameters: same bytes."""
