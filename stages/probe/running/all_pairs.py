"""Compare every encoder with every other: read embeddings by key, run the probes, write one folder."""

from __future__ import annotations

import hashlib
from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reprise.artifacts.embeddings import read_embeddings
from reprise.artifacts.layout import MANIFEST
from reprise.artifacts.manifest import read_manifest, scored_split
from reprise.artifacts.tables.parquet import write_table
from reprise.config.errors import EmbeddingError
from reprise.storage.atomic import atomic_directory, write_json
from reprise.storage.progress import track
from stages.probe.encoder import Encoder, Encoders, Examples, RepresentationProbe
from stages.probe.probe import ProbeResult
from stages.probe.running import cache

FILE, TABLE = "representations.json", "representations.parquet"
TAP = "backbone"
FEWEST = 20  # images in common, below which nothing is compared
DIGITS = 6


def read_encoders(files: dict[str, tuple[str, int, Path]], rows: int, manifest: Path = MANIFEST) -> Encoders:
    """Read the features of the images that the manifest and all embeddings have.

    Args:
        files: the encoder's name -> its run, seed and embeddings file.
        rows: images of each split at most, chosen by the hash of their keys.
        manifest: path of the manifest.

    Raises:
        EmbeddingError: a file is missing or damaged, or the files hold so different images that too few are in all of
            them. Where the data set itself is that small there is no error: `compare_all` says so then.
    """
    table = read_manifest(manifest, ["key", "split", "label"])
    split = dict(zip(table["key"].to_pylist(), table["split"].to_pylist(), strict=True))
    label = dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
    read = {name: read_embeddings(path, TAP) for name, (_, _, path) in files.items()}
    common = set(split).intersection(*(set(keys) for keys, _, _ in read.values()))
    scored = scored_split(split[key] for key in common)
    parts = {s: _first(sorted(key for key in common if split[key] == s), rows) for s in ("train", scored)}
    anywhere = set(split).intersection(set().union(*(keys for keys, _, _ in read.values())))
    held = {s: sum(split[key] == s for key in anywhere) for s in parts}
    if any(len(part) < FEWEST <= held[s] for s, part in parts.items()):
        raise EmbeddingError(
            "too few images are in every embedding to compare them",
            where=", ".join(str(path) for _, _, path in files.values()),
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
    members = []
    for name, (run, seed, _) in files.items():
        keys, _, values = read[name]
        place = {key: i for i, key in enumerate(keys)}
        train, test = (values[[place[key] for key in parts[s]]] for s in ("train", scored))
        members.append(Encoder(name, run, seed, train, test))
    return Encoders(examples, tuple(members))


def _first(keys: list[str], rows: int) -> list[str]:
    ranked = sorted(keys, key=lambda key: hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest())
    return sorted(ranked[:rows])


def compare_all(probes: dict[str, RepresentationProbe], encoders: Encoders, output: Path) -> list[str]:
    """Run each probe, or take its stored result, and write `representations.json` and `representations.parquet`.

    Returns:
        Names of the probes that were computed; the results of the others were stored. Where there are too few images
        none is, and every probe has a note instead of figures.
    """
    results: dict[str, ProbeResult] = {}
    ran: list[str] = []
    few = _too_few(encoders.examples)
    if few is not None:
        _write(probes, encoders, {name: ProbeResult({}, {"note": few}) for name in sorted(probes)}, output)
        return ran
    for name in track(sorted(probes), "representations", unit="probes"):
        probe = probes[name]
        if probe.needs_labels and not encoders.examples.labelled:
            results[name] = ProbeResult({}, {"note": "not run: it needs labels, and a split apart from train to score"})
            continue
        digest = cache.key(name, probe, encoders)
        stored = cache.load(digest)
        if stored is None:
            stored = ProbeResult({}, probe.protocol(encoders.examples), table=_pairs(probe, encoders))
            cache.store(digest, stored)
            ran.append(name)
        results[name] = stored
    _write(probes, encoders, results, output)
    return ran


def _too_few(examples: Examples) -> str | None:
    """Say that there are too few images to compare anything on; None where there are enough."""
    counts = {"train": len(examples.train_keys), examples.scored: len(examples.test_keys)}
    if min(counts.values()) >= FEWEST:
        return None
    found = " and ".join(f"{count} of {split}" for split, count in counts.items())
    return f"not run: a comparison needs {FEWEST} images of each split, and the embeddings share {found}"


def _pairs(probe: RepresentationProbe, encoders: Encoders) -> pa.Table:
    """Return a row per pair and metric: a, b (places of the encoders), metric, value."""
    prepared = [probe.prepare(encoder, encoders.examples) for encoder in encoders.members]
    indices = range(len(prepared))
    rows: list[dict[str, Any]] = []
    pairs = list(combinations_with_replacement(indices, 2) if probe.symmetric else product(indices, indices))
    for a, b in track(pairs, "compare", unit="pairs"):
        for metric, value in probe.compare(prepared[a], prepared[b]).items():
            rounded = None if value is None else round(float(value), DIGITS) + 0.0
            rows.append({"a": a, "b": b, "metric": metric, "value": rounded})
            if probe.symmetric and a != b:
                rows.append({"a": b, "b": a, "metric": metric, "value": rounded})
    columns = {"a": pa.int64(), "b": pa.int64(), "metric": pa.string(), "value": pa.float64()}
    return pa.Table.from_pylist(rows, pa.schema(list(columns.items())))


def _write(
    probes: dict[str, RepresentationProbe], encoders: Encoders, results: dict[str, ProbeResult], output: Path
) -> None:
    names = [encoder.name for encoder in encoders.members]
    written: dict[str, Any] = {}
    rows = []
    for name, result in results.items():
        probe, matrices = probes[name], _matrices(result.table, len(names))
        overall = probe.overall(matrices) if matrices else {}
        written[name] = {
            "caption": probe.caption,
            "symmetric": probe.symmetric,
            "protocol": result.protocol,
            "overall": {metric: round(value, DIGITS) + 0.0 for metric, value in overall.items()},
            "metrics": {
                metric: [[None if np.isnan(v) else v for v in row] for row in matrix.tolist()]
                for metric, matrix in matrices.items()
            },
        }
        for row in result.table.to_pylist() if result.table is not None else ():
            a, b = encoders.members[row["a"]], encoders.members[row["b"]]
            rows.append(
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
    columns = {"probe": text, "metric": text, "a": text, "a_run": text, "a_seed": whole, "b": text, "b_run": text}
    schema = pa.schema([*columns.items(), ("b_seed", whole), ("value", pa.float64())])
    with atomic_directory(output) as folder:
        write_table(folder / TABLE, pa.Table.from_pylist(rows, schema))
        listed = [{"name": encoder.name, "run": encoder.run, "seed": encoder.seed} for encoder in encoders.members]
        write_json(folder / FILE, {"encoders": listed, "probes": written})


def _matrices(table: pa.Table | None, count: int) -> dict[str, np.ndarray]:
    """Return metric -> (encoders, encoders) values, NaN where there is no value."""
    matrices: dict[str, np.ndarray] = {}
    for row in table.to_pylist() if table is not None else ():
        matrix = matrices.setdefault(row["metric"], np.full((count, count), np.nan))
        matrix[row["a"], row["b"]] = np.nan if row["value"] is None else row["value"]
    return matrices
