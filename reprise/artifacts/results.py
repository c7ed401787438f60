"""Results of probes: flat metrics with intervals, and the prediction for each example.

The folder of a probe suite holds `metrics.json` ({probe: {metric: {"value", "low", "high", "n"}}}; low and high may be
null) and, for each probe that classifies, `predictions-<probe>.parquet` on the test split.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa

from reprise.artifacts.tables.parquet import read_table, write_table
from reprise.config.errors import ResultError
from reprise.storage.atomic import write_json
from reprise.storage.system.machine import fault_behind

METRICS = "metrics.json"
PREDICTIONS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("predicted", pa.string(), nullable=False),
        pa.field("correct", pa.bool_(), nullable=False),
        pa.field("score", pa.float32(), nullable=True),  # of the predicted class, if the probe has one
        pa.field("group", pa.string(), nullable=True),
    ]
)
_FIX = "Run `dvc repro probe` to write it again."


def write_metrics(path: str | Path, metrics: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Write metrics after checking that every value is a finite number.

    Args:
        path: the file.
        metrics: {probe: {metric: {"value", "low", "high", "n"}}}.

    Raises:
        ResultError: a value is NaN, infinite or not a number.
    """
    for probe, figures in metrics.items():
        for metric, figure in figures.items():
            value = figure.get("value")
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ResultError(
                    f"metric '{probe}.{metric}' must be a finite number",
                    where=path,
                    found=value,
                    fix="Look at the embedding of this run: it may have collapsed.",
                )
    write_json(path, metrics)


def read_json(path: str | Path, fix: str = _FIX) -> Any:
    """Read a JSON artifact.

    Args:
        path: the file.
        fix: the last sentence of the message, which says what to do.

    Raises:
        ResultError: missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        if (fault := fault_behind(error, Path(path))) is not None:
            raise fault from error
        what = "the file is missing" if isinstance(error, FileNotFoundError) else "the file cannot be read"
        raise ResultError(what, where=path, found=error.strerror, fix=fix) from error
    except (ValueError, RecursionError) as error:
        raise ResultError("the file is not JSON", where=path, found=error, fix=fix) from error


def write_predictions(path: str | Path, table: pa.Table) -> None:
    """Write the predictions for single examples, sorted by key."""
    write_table(path, table.select(PREDICTIONS_SCHEMA.names).cast(PREDICTIONS_SCHEMA).sort_by("key"))


def read_predictions(path: str | Path) -> pa.Table:
    """Read and check the predictions for single examples."""
    return read_table(path, PREDICTIONS_SCHEMA, ResultError, _FIX)
