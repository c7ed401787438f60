"""What the page says about label sets and runs, read from the artifacts of mine, pretrain and probe.

A folder that is not there gives nothing; a damaged file raises the contract's error.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from reprise.artifacts.label_sets import FILE as PSEUDO_LABELS
from reprise.artifacts.label_sets import read_pseudo_labels
from reprise.artifacts.results import METRICS, read_predictions
from reprise.artifacts.tables import read_table
from reprise.config.errors import ResultError
from stages.report.shape import expected_shape, read_object

MINE, RUNS, PROBE = Path("data/mine"), Path("data/runs"), Path("data/probe")
MAP_SCHEMA = pa.schema([pa.field("key", pa.string()), pa.field("x", pa.float32()), pa.field("y", pa.float32())])
NEIGHBOUR_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("rank", pa.int32()),
        pa.field("neighbour_key", pa.string()),
        pa.field("similarity", pa.float32()),
    ]
)
CLASSIFIERS = ("linear", "knn")  # whose predictions make the confusion matrix, preferred first


@dataclass(frozen=True)
class LabelSet:
    """A mined label set of one seed: its figures (quality.json), cluster sizes, and montage file."""

    name: str
    seed: int
    quality: dict[str, Any]
    clusters: dict[str, int]  # key -> cluster
    montage: Path | None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Images per cluster, largest first."""
        return tuple(sorted(Counter(self.clusters.values()).values(), reverse=True))


@dataclass(frozen=True)
class Figure:
    """A metric's value with its interval over examples (None where a bootstrap would mislead) and how many examples."""

    value: float
    low: float | None
    high: float | None
    n: int | None


@dataclass(frozen=True)
class SeedRun:
    """One trained backbone and what the probes said of it."""

    run: str
    seed: int
    config: dict[str, Any]
    history: dict[str, tuple[float | None, ...]]  # column -> value an epoch; None where empty or not a number
    figures: dict[str, Figure]  # "<probe>.<metric>"
    protocol: dict[str, dict[str, Any]]  # probe -> choices
    map: tuple[tuple[str, float, float], ...]  # (key, x, y)
    neighbours: dict[str, tuple[tuple[str, float], ...]]  # query -> (neighbour, similarity) by rank
    predictions: tuple[str, tuple[str, ...], tuple[str, ...]] | None  # probe, true classes, predicted classes


@dataclass(frozen=True)
class Run:
    """A row of the comparison: the same method and labels over its seeds."""

    name: str
    seeds: tuple[SeedRun, ...]

    @property
    def first(self) -> SeedRun:
        """The lowest seed, which the pictures show."""
        return self.seeds[0]


def gather_label_sets() -> tuple[LabelSet, ...]:
    """All of data/mine/<name>/<seed>, by name and seed."""
    found = []
    for name, seed, folder in numbered(MINE):
        labels = folder / PSEUDO_LABELS
        clusters: dict[str, int] = {}
        if labels.exists():
            table = read_pseudo_labels(labels)
            rows = zip(table["key"].to_pylist(), table["cluster"].to_pylist(), strict=True)
            clusters = {key: cluster for key, cluster in rows if cluster is not None}
        montage = folder / "montage.png"
        figures = read_object(folder / "quality.json", "mine")
        found.append(LabelSet(name, seed, figures, clusters, montage if montage.exists() else None))
    return tuple(found)


def gather_runs(order: tuple[str, ...]) -> tuple[Run, ...]:
    """All runs of data/runs, in the order given; runs that it lacks follow by name."""
    seeds: dict[str, list[SeedRun]] = {}
    for name, seed, folder in numbered(RUNS):
        seeds.setdefault(name, []).append(_seed_run(name, seed, folder))
    ordered = [name for name in dict.fromkeys(order) if name in seeds]
    return tuple(Run(name, tuple(seeds[name])) for name in [*ordered, *sorted(seeds.keys() - set(ordered))])


def numbered(root: Path) -> list[tuple[str, int, Path]]:
    """(name, seed, folder) of every <root>/<name>/<seed>, sorted by name and number."""
    folders = [f for f in root.glob("*/*") if f.is_dir() and f.name.isdecimal() and f.name.isascii()]
    return sorted((f.parent.name, int(f.name), f) for f in folders)


def _seed_run(run: str, seed: int, folder: Path) -> SeedRun:
    history = folder / "history.csv"
    figures: dict[str, Figure] = {}
    protocol: dict[str, dict[str, Any]] = {}
    places: dict[str, Path] = {}
    for group in sorted((PROBE / run / str(seed)).glob("*")):
        with expected_shape(group / METRICS, "probe"):
            for probe, metrics in read_object(group / METRICS, "probe").items():
                figures |= {f"{probe}.{metric}": _figure(raw) for metric, raw in metrics.items()}
        protocol |= read_object(group / "protocol.json", "probe")
        places |= {file.name: file for file in sorted(group.glob("*.parquet"))}
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
    )


def _figure(raw: dict[str, Any]) -> Figure:
    return Figure(float(raw["value"]), raw.get("low"), raw.get("high"), raw.get("n"))


def read_history(path: Path) -> dict[str, tuple[float | None, ...]]:
    """Columns of a history.csv; cells that are empty or not finite numbers become None.

    Raises:
        ResultError: not a table in UTF-8.
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


def _columns(path: Path, schema: pa.Schema) -> list[tuple[Any, ...]]:
    table = read_table(path, schema, ResultError, "Run `dvc repro probe` to write it again.", exact=False)
    return list(zip(*(table[name].to_pylist() for name in schema.names), strict=True))


def _map(path: Path | None) -> tuple[tuple[str, float, float], ...]:
    return tuple(_columns(path, MAP_SCHEMA)) if path else ()


def _neighbours(path: Path | None) -> dict[str, tuple[tuple[str, float], ...]]:
    found: dict[str, list[tuple[int, str, float]]] = {}
    for key, rank, neighbour, similarity in _columns(path, NEIGHBOUR_SCHEMA) if path else ():
        found.setdefault(key, []).append((rank, neighbour, similarity))
    return {key: tuple((n, s) for _, n, s in sorted(rows)) for key, rows in sorted(found.items())}


def _predictions(places: dict[str, Path]) -> tuple[str, tuple[str, ...], tuple[str, ...]] | None:
    for probe in CLASSIFIERS:
        path = places.get(f"predictions-{probe}.parquet")
        if path is not None:
            table = read_predictions(path)
            if table.num_rows:
                return probe, tuple(table["label"].to_pylist()), tuple(table["predicted"].to_pylist())
    return None
