"""Every side against every side: reads embeddings by key, runs the probes between runs, writes one folder."""

from __future__ import annotations

import hashlib
from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reprise.artifacts.embeddings import read_embeddings
from reprise.artifacts.layout import MANIFEST
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.tables import write_table
from reprise.config.errors import EmbeddingError
from reprise.runtime.progress import track
from reprise.storage.atomic import atomic_directory, write_json
from stages.probe import cache
from stages.probe.probe import ProbeResult
from stages.probe.side import AllSides, BetweenProbe, Examples, Side

FILE, TABLE = "between.json", "between.parquet"
TAP = "backbone"
FEWEST = 20  # images in common, below which nothing is compared
DIGITS = 6


def read_sides(named: dict[str, tuple[str, int, Path]], rows: int, manifest: Path = MANIFEST) -> AllSides:
    """Every encoder on the images that all of them and the manifest have, at most `rows` a split, by key hash.

    Args:
        named: name for people -> run, seed, embeddings file.

    Raises:
        EmbeddingError: a file is missing or damaged, or too few images are in all of them.
    """
    table = read_manifest(manifest, ["key", "split", "label"])
    split = dict(zip(table["key"].to_pylist(), table["split"].to_pylist(), strict=True))
    label = dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
    read = {name: read_embeddings(path, TAP) for name, (_, _, path) in named.items()}
    common = set(split).intersection(*(set(keys) for keys, _, _ in read.values()))
    scored = next((s for s in ("test", "val") if any(split[key] == s for key in common)), "train")
    parts = {s: _first(sorted(key for key in common if split[key] == s), rows) for s in ("train", scored)}
    if min(len(part) for part in parts.values()) < FEWEST:
        raise EmbeddingError(
            "too few images are in every embedding to compare them",
            where=", ".join(str(path) for _, _, path in named.values()),
            found=", ".join(f"{len(part)} of {s}" for s, part in parts.items()),
            fix=f"Compare embeddings of the same images, {FEWEST} of each split or more.",
        )
    classes = tuple(sorted({label[key] for key in common} - {None}))
    index = {name: i for i, name in enumerate(classes)}
    labels = {s: np.array([index.get(label[key], -1) for key in part], np.int64) for s, part in parts.items()}
    examples = Examples(
        np.array(parts["train"], object),
        np.array(parts[scored], object),
        labels["train"],
        labels[scored],
        classes,
        scored,
    )
    sides = []
    for name, (run, seed, _) in named.items():
        keys, _, values = read[name]
        place = {key: i for i, key in enumerate(keys)}
        train, test = (values[[place[key] for key in parts[s]]] for s in ("train", scored))
        sides.append(Side(name, run, seed, train, test))
    return AllSides(examples, tuple(sides))


def _first(keys: list[str], rows: int) -> list[str]:
    ranked = sorted(keys, key=lambda key: hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest())
    return sorted(ranked[:rows])


def compare_all(probes: dict[str, BetweenProbe], every: AllSides, output: Path) -> list[str]:
    """Run each probe, or take its stored result, and write `between.json` and `between.parquet`.

    Returns:
        Names of the probes that were really run.
    """
    found, ran = {}, []
    for name in track(sorted(probes), "between", unit="probes"):
        probe = probes[name]
        if probe.needs_labels and not every.examples.labelled:
            found[name] = ProbeResult({}, {"note": "not run: it needs labels, and a split apart from train to score"})
            continue
        digest = cache.key(name, probe, every)
        stored = cache.load(digest)
        if stored is None:
            stored = ProbeResult({}, probe.protocol(every.examples), table=_pairs(probe, every))
            cache.store(digest, stored)
            ran.append(name)
        found[name] = stored
    _write(probes, every, found, output)
    return ran


def _pairs(probe: BetweenProbe, every: AllSides) -> pa.Table:
    """A row a pair and metric: a, b (numbers of the sides), metric, value."""
    prepared = [probe.prepare(side, every.examples) for side in every.sides]
    indices = range(len(prepared))
    rows: list[dict[str, Any]] = []
    for a, b in combinations_with_replacement(indices, 2) if probe.symmetric else product(indices, indices):
        for metric, value in probe.compare(prepared[a], prepared[b]).items():
            rounded = None if value is None else round(float(value), DIGITS) + 0.0
            rows.append({"a": a, "b": b, "metric": metric, "value": rounded})
            if probe.symmetric and a != b:
                rows.append({"a": b, "b": a, "metric": metric, "value": rounded})
    kinds = {"a": pa.int64(), "b": pa.int64(), "metric": pa.string(), "value": pa.float64()}
    return pa.Table.from_pylist(rows, pa.schema(list(kinds.items())))


def _write(probes: dict[str, BetweenProbe], every: AllSides, found: dict[str, ProbeResult], output: Path) -> None:
    names = [side.name for side in every.sides]
    told: dict[str, Any] = {}
    tables = []
    for name, result in found.items():
        probe, matrices = probes[name], _matrices(result.table, len(names))
        overall = probe.overall(matrices) if matrices else {}
        told[name] = {
            "about": probe.about,
            "symmetric": probe.symmetric,
            "protocol": result.protocol,
            "overall": {metric: round(value, DIGITS) + 0.0 for metric, value in overall.items()},
            "metrics": {
                metric: [[None if np.isnan(v) else v for v in row] for row in matrix.tolist()]
                for metric, matrix in matrices.items()
            },
        }
        for row in result.table.to_pylist() if result.table is not None else ():
            a, b = every.sides[row["a"]], every.sides[row["b"]]
            tables.append(
                {
                    "probe": name,
                    "metric": row["metric"],
                    "a": a.name,
                    "a_run": a.run,
                    "a_seed": a.seed,
                    "b": b.name,
                    "b_run": b.run,
                    "b_seed": b.seed,
                    "value": row["value"],
                }
            )
    text, whole = pa.string(), pa.int64()
    kinds = {"probe": text, "metric": text, "a": text, "a_run": text, "a_seed": whole, "b": text, "b_run": text}
    schema = pa.schema([*kinds.items(), ("b_seed", whole), ("value", pa.float64())])
    with atomic_directory(output) as folder:
        write_table(folder / TABLE, pa.Table.from_pylist(tables, schema))
        sides = [{"name": side.name, "run": side.run, "seed": side.seed} for side in every.sides]
        write_json(folder / FILE, {"sides": sides, "probes": told})


def _matrices(table: pa.Table | None, count: int) -> dict[str, np.ndarray]:
    """metric -> (sides, sides), NaN where there is no value."""
    found: dict[str, np.ndarray] = {}
    for row in table.to_pylist() if table is not None else ():
        matrix = found.setdefault(row["metric"], np.full((count, count), np.nan))
        matrix[row["a"], row["b"]] = np.nan if row["value"] is None else row["value"]
    return found
