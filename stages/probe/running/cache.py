"""Store results of probes by the hash of their inputs, so that of a stage's probes only the changed ones are computed.

The store is working state under `.reprise/`, never an output: losing it costs time only. It is bounded in number; the
result that was used longest ago goes first.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from reprise.artifacts.results import read_json, read_predictions
from reprise.artifacts.tables.parquet import write_table
from reprise.config.errors import RepriseError
from reprise.storage.atomic import dump_json, explained_storage
from reprise.storage.code.fingerprint import digest_of, fingerprint
from stages.probe.probe import Figure, Probe, ProbeResult

if TYPE_CHECKING:
    from stages.probe.data import ProbeData
    from stages.probe.encoder import Encoders, RepresentationProbe

FOLDER = Path(".reprise/probes")
KEPT = 500
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "pyarrow")
_RESULT, _PREDICTIONS, _TABLE = "result.json", "predictions.parquet", "table.parquet"


def key(name: str, probe: Probe | RepresentationProbe, data: ProbeData | Encoders) -> str:
    """Hash what the result depends on: data, parameters, the code of the probe and of its data, libraries."""
    seen = data.digest(probe.needs_labels, probe.needs_augmented, probe.needs_shifted)
    found = hashlib.sha256(f"{name} {seen} {probe.params.model_dump_json()}".encode())
    for library in _LIBRARIES:
        found.update(f"{library} {metadata.version(library)} ".encode())
    found.update(digest_of(fingerprint([type(probe).__module__, type(data).__module__])).encode())
    return found.hexdigest()


def load(digest: str) -> ProbeResult | None:
    """Return the stored result, or None; a damaged one counts as absent."""
    folder = FOLDER / digest
    if not folder.is_dir():
        return None
    try:
        stored = read_json(folder / _RESULT)
        metrics = {metric: Figure(**figure) for metric, figure in stored["metrics"].items()}
        predictions = read_predictions(folder / _PREDICTIONS) if stored["predictions"] else None
        table = pq.read_table(folder / _TABLE) if stored["table"] else None
        result = ProbeResult(metrics, dict(stored["protocol"]), predictions, table)
    except (RepriseError, OSError, ValueError, KeyError, TypeError, AttributeError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    os.utime(folder)
    return result


def store(digest: str, result: ProbeResult, kept: int = KEPT) -> None:
    """Keep a result under its hash, whole or not at all, and drop those beyond `kept` that were unused the longest."""
    with explained_storage(FOLDER):
        FOLDER.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=FOLDER))
        try:
            if result.predictions is not None:
                write_table(partial / _PREDICTIONS, result.predictions)
            if result.table is not None:
                write_table(partial / _TABLE, result.table)
            stored = {
                "metrics": {metric: vars(figure) for metric, figure in result.metrics.items()},
                "protocol": result.protocol,
                "predictions": result.predictions is not None,
                "table": result.table is not None,
            }
            (partial / _RESULT).write_text(dump_json(stored), encoding="utf-8")
            shutil.rmtree(FOLDER / digest, ignore_errors=True)
            try:
                partial.rename(FOLDER / digest)
            except OSError:  # another process stored the same result meanwhile
                if not (FOLDER / digest).is_dir():
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        _prune(kept)


def _prune(kept: int) -> None:
    """Drop the results used longest ago; what a killed process left unfinished is as old as its last write."""
    found = []
    for folder in FOLDER.iterdir():
        try:
            found.append((folder.stat().st_mtime, folder.name))
        except FileNotFoundError:  # another process prunes as well
            continue
    for _, name in sorted(found, reverse=True)[kept:]:
        shutil.rmtree(FOLDER / name, ignore_errors=True)
