"""Runs: what pretrain wrote to data/runs/<run>/<seed>, and what the probes measured on it.

A folder that does not exist gives nothing; a damaged file raises the error of its format.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from reprise.artifacts.labels.image_clusters import FILE as CLUSTERS
from reprise.artifacts.labels.image_clusters import read_image_clusters
from reprise.artifacts.layout import PROBES, PROBES_ON_SHIFTS, RUNS
from reprise.artifacts.results import METRICS, read_predictions
from reprise.artifacts.tables.parquet import read_table
from reprise.config.errors import ResultError
from stages.report.readers.seed_folders import seed_folders
from stages.report.readers.shape import expected_shape, read_object

MAP_SCHEMA = pa.schema([pa.field("key", pa.string()), pa.field("x", pa.float32()), pa.field("y", pa.float32())])
NEIGHBOUR_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("rank", pa.int32()),
        pa.field("neighbour_key", pa.string()),
        pa.field("similarity", pa.float32()),
    ]
)
LOOKALIKE_SCHEMA = pa.schema([NEIGHBOUR_SCHEMA.field(name) for name in ("key", "neighbour_key", "similarity")])
CLASSIFIERS = ("linear", "knn")  # whose predictions make the confusion matrix, preferred first


@dataclass(frozen=True)
class Figure:
    """A metric of one run and seed.

    Args:
        value: the metric.
        low, high: its interval over examples; None where a bootstrap would mislead.
        n: number of examples.
    """

    value: float
    low: float | None
    high: float | None
    n: int | None


class Predictions(NamedTuple):
    """What a probe answered for the images that were scored.

    Args:
        probe: its name.
        labels: (n,) true classes.
        predicted: (n,) classes that it answered.
        keys: (n,) of the images.
        scores: (n,) of the answers; None where the probe has none.
    """

    probe: str
    labels: tuple[str, ...]
    predicted: tuple[str, ...]
    keys: tuple[str, ...] = ()
    scores: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class SeedRun:
    """One trained backbone and its probes.

    Args:
        run: the row of `runs` in params.yaml.
        seed: the seed that it was trained with.
        config: config.json.
        history: column of history.csv -> value by epoch; None where a cell is empty or not a number.
        figures: "<probe>.<metric>" -> figure.
        protocol: probe -> the choices that it made.
        map: (key, x, y) of every image in the embedding map.
        neighbours: query -> (neighbour, similarity) by rank.
        lookalikes: (test, train) images that its network hardly tells apart, nearest first; None where nobody looked.
        watched: "<watch>: <figure>" -> (epoch, value) by epoch, of a run that was watched.
        clusters: key -> (cluster, distance to its centre, certainty) of every image, where its embedding was clustered.
        predictions: answers of the linear probe, or of kNN; None without labels.
    """

    run: str
    seed: int
    config: dict[str, Any]
    history: dict[str, tuple[float | None, ...]]
    figures: dict[str, Figure]
    protocol: dict[str, dict[str, Any]]
    map: tuple[tuple[str, float, float], ...]
    neighbours: dict[str, tuple[tuple[str, float], ...]]
    predictions: Predictions | None
    lookalikes: tuple[tuple[str, str], ...] | None = None
    watched: dict[str, tuple[tuple[float, float | None], ...]] = field(default_factory=dict)
    clusters: dict[str, tuple[int, float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One row of the comparison: a method and its labels, over its seeds."""

    name: str
    seeds: tuple[SeedRun, ...]

    @property
    def first(self) -> SeedRun:
        """Its lowest seed, which the pictures show."""
        return self.seeds[0]


def read_runs(order: tuple[str, ...]) -> tuple[Run, ...]:
    """Read all of data/runs.

    Args:
        order: names of runs in the order in which the page shows them; further runs follow by name.

    Raises:
        ResultError: a file is damaged.
    """
    seeds: dict[str, list[SeedRun]] = {}
    for name, seed, folder in seed_folders(RUNS):
        seeds.setdefault(name, []).append(_seed_run(name, seed, folder))
    ordered = [name for name in dict.fromkeys(order) if name in seeds]
    return tuple(Run(name, tuple(seeds[name])) for name in [*ordered, *sorted(seeds.keys() - set(ordered))])


def _seed_run(run: str, seed: int, folder: Path) -> SeedRun:
    history = folder / "history.csv"
    figures: dict[str, Figure] = {}
    protocol: dict[str, dict[str, Any]] = {}
    places: dict[str, Path] = {}
    folders = [*(PROBES / run / str(seed)).glob("*/*"), *PROBES_ON_SHIFTS.glob(f"*/{run}/{seed}")]
    for suite in sorted(f for f in folders if f.is_dir()):
        with expected_shape(suite / METRICS, "probe"):
            for probe, metrics in read_object(suite / METRICS, "probe").items():
                figures |= {f"{probe}.{metric}": _figure(raw) for metric, raw in metrics.items()}
        protocol |= read_object(suite / "protocol.json", "probe")
        places |= {file.name: file for file in sorted(suite.glob("*.parquet"))}
    return SeedRun(
        run=run,
        seed=seed,
        config=read_object(folder / "config.json", "pretrain"),
        history=read_history(history) if history.exists() else {},
        figures=figures,
        protocol=protocol,
        map=_map(places.get("map.parquet")),
        neighbours=_neighbours(places.get("neighbours.parquet")),
        predictions=_predictions(places),
        lookalikes=_lookalikes(places.get("lookalikes.parquet")),
        watched=read_watched(watches) if (watches := folder / "watches.csv").exists() else {},
        clusters=_clusters(places.get(CLUSTERS)),
    )


def _figure(raw: dict[str, Any]) -> Figure:
    return Figure(float(raw["value"]), raw.get("low"), raw.get("high"), raw.get("n"))


def read_watched(path: Path) -> dict[str, tuple[tuple[float, float | None], ...]]:
    """Read the figures of a watches.csv by watch and name; values that are empty or not finite become None.

    Raises:
        ResultError: the file is no such table.
    """
    found: dict[str, list[tuple[float, float | None]]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                value = float(row["value"]) if row["value"] else math.nan
                point = (float(row["epoch"]), value if math.isfinite(value) else None)
                found.setdefault(f"{row['watch']}: {row['figure']}", []).append(point)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ResultError(
            "what watches saw is not a table",
            where=path,
            found=error,
            fix="Run `dvc repro pretrain` to write it again.",
        ) from error
    return {name: tuple(points) for name, points in found.items()}


def read_history(path: Path) -> dict[str, tuple[float | None, ...]]:
    """Read the columns of a history.csv; cells that are empty or not finite numbers become None.

    Raises:
        ResultError: the file is not a table in UTF-8.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ResultError(
            "the history is not a table", where=path, found=error, fix="Run `dvc repro pretrain` to write it again."
        ) from error
    names = list(rows[0]) if rows else []
    return {str(name): tuple(_cell(row.get(name)) for row in rows) for name in names if name is not None}


def _cell(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _rows(path: Path, schema: pa.Schema) -> list[tuple[Any, ...]]:
    table = read_table(path, schema, ResultError, "Run `dvc repro probe` to write it again.", exact=False)
    return list(zip(*(table[name].to_pylist() for name in schema.names), strict=True))


def _map(path: Path | None) -> tuple[tuple[str, float, float], ...]:
    return tuple(_rows(path, MAP_SCHEMA)) if path else ()


def _neighbours(path: Path | None) -> dict[str, tuple[tuple[str, float], ...]]:
    by_query: dict[str, list[tuple[int, str, float]]] = {}
    for key, rank, neighbour, similarity in _rows(path, NEIGHBOUR_SCHEMA) if path else ():
        by_query.setdefault(key, []).append((rank, neighbour, similarity))
    return {key: tuple((n, s) for _, n, s in sorted(rows)) for key, rows in sorted(by_query.items())}


def _lookalikes(path: Path | None) -> tuple[tuple[str, str], ...] | None:
    return tuple((key, other) for key, other, _ in _rows(path, LOOKALIKE_SCHEMA)) if path else None


def _clusters(path: Path | None) -> dict[str, tuple[int, float, float]]:
    table = read_image_clusters(path) if path else None
    return (
        {row["key"]: (row["cluster"], row["distance"], row["certainty"]) for row in table.to_pylist()} if table else {}
    )


def _predictions(places: dict[str, Path]) -> Predictions | None:
    for probe in CLASSIFIERS:
        path = places.get(f"predictions-{probe}.parquet")
        if path is not None:
            table = read_predictions(path)
            if table.num_rows:
                columns = (tuple(table[name].to_pylist()) for name in ("label", "predicted", "key", "score"))
                return Predictions(probe, *columns)
    return None
