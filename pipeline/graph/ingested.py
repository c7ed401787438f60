"""Hold the parameters against the images, once for each state of both: only while data/ingest is of the present source.

Data that were made from another source, or with other parameters of it, say nothing about what the next run will find.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.graph.lock_file import read_lock
from pipeline.graph.workspace import read_digest
from reprise.artifacts.labels.targets import TARGETS
from reprise.artifacts.layout import CODE, INGEST, MANIFEST, PARAMS, PRESENT_CODE
from reprise.config.errors import GraphError, ParameterError
from reprise.config.params import read_yaml
from reprise.storage.atomic import write_json
from reprise.storage.code.fingerprint import digest_of_project
from reprise.storage.content_hashes import md5_of_small_file

CHECKED_WITH_DATA = Path(".reprise/checked_with_data.json")


def check_images(root: Path, run: Callable[[], object]) -> None:
    """Hold the parameters against the images unless the same was found to fit before.

    Args:
        root: the project folder.
        run: holds them against each other, and raises if a stage would refuse the images.
    """
    digest = _digest(root)
    if digest is None or read_digest(root / CHECKED_WITH_DATA) == digest:
        return
    run()
    write_json(root / CHECKED_WITH_DATA, {"digest": digest})


def data_option(root: Path) -> list[str]:
    """Return the option that lets `stages.check` look at data/ingest, where that is of the present source."""
    return ["--data"] if _entry(root) is not None else []


def _digest(root: Path) -> str | None:
    entry = _entry(root)
    if entry is None:
        return None
    state = [digest_of_project(root), entry, (root / TARGETS).is_file()]
    return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()


def _entry(root: Path) -> dict[str, Any] | None:
    """Return what dvc.lock records of ingest, if source, parameters and code are still the same; else None."""
    if not (root / MANIFEST).is_file():
        return None
    try:
        entry = read_lock(root).get("ingest") or {}
        source = read_yaml(root / PARAMS).get("source")
    except (GraphError, ParameterError):
        return None
    recorded = (entry.get("params") or {}).get(str(PARAMS)) or {}
    code = CODE / "ingest.json"
    present = {code.as_posix(): root / PRESENT_CODE / code.relative_to(CODE)}
    deps = entry.get("deps") or []
    same = all(dep.get("md5") == md5_of_small_file(present.get(dep["path"], root / dep["path"])) for dep in deps)
    made = [out["path"] for out in entry.get("outs") or []]
    return entry if deps and same and recorded.get("source") == source and INGEST.as_posix() in made else None
