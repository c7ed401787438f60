"""What a side was made from: parameters, images, and whether its figures belong to them.

Git holds params.yaml and dvc.lock of every revision. The tables of images lie in DVC's cache, and are read only where
dvc.lock says that the images of two sides differ.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.compare.revisions import WORKSPACE
from pipeline.compare.sides.names import FOLDER, Side
from pipeline.compare.sides.parameters import by_name
from pipeline.graph.lock_file import LOCK_FILE, outputs_of, parse_lock
from pipeline.graph.remotes.revision_outputs import fetch_at
from pipeline.processes.git import git
from reprise.artifacts.layout import INGEST, MANIFEST, METRICS, PARAMS
from reprise.artifacts.manifest import read_manifest, scored_split
from reprise.config.errors import GitError, GraphError, RepriseError
from reprise.config.plain_yaml import LARGEST_FILE, plain_data

_SHOWN = 12  # names of images
_MISSING = object()


@dataclass(frozen=True)
class SideInputs:
    """What a side was made from.

    Attributes:
        parameters: content of params.yaml with rows under their names; None where it cannot be read.
        images: the object of data/ingest in dvc.lock; empty where it is not known.
        stale: why the figures of a revision are not those of its parameters, a clause each.
    """

    parameters: Mapping[str, Any] | None
    images: str
    stale: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageChange:
    """In what the images of two sides differ.

    Attributes:
        known: whether both tables of images could be read; if not, only that they differ is known.
        counts: number of images by what became of them: added, removed, relabelled, moved to another split.
        examples: paths of some of them.
        scored: whether the images that results are reported on differ; None where that is not known.
    """

    known: bool
    counts: Mapping[str, int]
    examples: Mapping[str, tuple[str, ...]]
    scored: bool | None

    def line(self) -> str:
        """Say it in a line."""
        if not self.known:
            return "the images or their labels differ; their tables are not in DVC's cache"
        told = ", ".join(f"{count:,} {what}" for what, count in self.counts.items() if count)
        return f"images: {told}" if told else "the tables of images differ; images, labels and splits do not"


def read_inputs(side: Side, root: Path = Path()) -> SideInputs:
    """Read what a side was made from; what cannot be read is left empty.

    Raises:
        GitError: git is missing or fails.
    """
    params, lock, metrics = (_content(side, path, root) for path in (PARAMS, Path(LOCK_FILE), METRICS))
    return inputs_in(params, lock, metrics if side.commit else None)


def inputs_in(params: bytes | None, lock: bytes | None, metrics: bytes | None) -> SideInputs:
    """Read what figures were made from out of the contents of params.yaml, dvc.lock and metrics.json.

    Args:
        params: content of params.yaml; None where there is none.
        lock: content of dvc.lock.
        metrics: content of metrics.json, to hold it against dvc.lock; None leaves that out.
    """
    raw: Any = None
    if params is not None and len(params) <= LARGEST_FILE:
        try:
            raw = plain_data(params, PARAMS)
        except RepriseError:
            raw = None
    entries: dict[str, Any] = {}
    with suppress(GraphError, UnicodeDecodeError):  # before the first run, or damaged: nothing is known of its images
        entries = parse_lock((lock or b"").decode("utf-8"), LOCK_FILE)
    images = next((md5 for path, md5 in outputs_of(entries).items() if Path(path) == INGEST), "")
    raw = raw if isinstance(raw, dict) else None
    stale = () if metrics is None else _stale(raw or {}, entries, metrics)
    return SideInputs(None if raw is None else by_name(raw), images, stale)


def image_change(base: Side, other: Side, root: Path = Path()) -> ImageChange:
    """Compare the tables of images of two sides."""
    with manifest_of(base, root) as old, manifest_of(other, root) as new:
        if old is None or new is None:
            return ImageChange(False, {}, {}, None)
        before, after = ({row["key"]: row for row in table.to_pylist()} for table in (old, new))
    both = [key for key in after if key in before]
    found = {
        "added": [key for key in after if key not in before],
        "removed": [key for key in before if key not in after],
        "relabelled": [key for key in both if before[key]["label"] != after[key]["label"]],
        "in another split": [key for key in both if before[key]["split"] != after[key]["split"]],
    }
    examples = {
        what: tuple(str((after.get(key) or before[key])["path"]) for key in keys[:_SHOWN])
        for what, keys in found.items()
    }
    scored = _scored(before) != _scored(after)
    return ImageChange(True, {what: len(keys) for what, keys in found.items()}, examples, scored)


@contextmanager
def manifest_of(side: Side, root: Path = Path()) -> Iterator[Any]:
    """Yield key, path, label and split of the images of a side; None where the table cannot be read."""
    with tempfile.TemporaryDirectory() as folder:
        path = root / MANIFEST
        if side.commit:
            path = Path(folder) / MANIFEST.name
            if not fetch_at(side.commit, str(MANIFEST), path, root):
                yield None
                return
        try:
            table = read_manifest(path, ["key", "path", "label", "split"])
        except RepriseError:
            table = None
        yield table


def paths_of(keys: Collection[str], sides: Sequence[Side], root: Path = Path()) -> dict[str, str]:
    """Return the path of images by key: as the folder names them, and where it does not know one, as a side does."""
    paths: dict[str, str] = {}
    for side in dict.fromkeys([Side(WORKSPACE, FOLDER), *sides]):
        if set(keys) <= paths.keys():
            break
        with manifest_of(side, root) as table:
            rows = [] if table is None else zip(table["key"].to_pylist(), table["path"].to_pylist(), strict=True)
            paths |= {key: path for key, path in rows if key in keys and key not in paths}
    return paths


def _scored(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str | None]:
    """Return the label of each image that results are reported on."""
    if not rows:
        return {}
    split = scored_split({row["split"] for row in rows.values()})
    return {key: row["label"] for key, row in rows.items() if row["split"] == split}


def _content(side: Side, path: Path, root: Path) -> bytes | None:
    if not side.commit:
        try:
            return (root / path).read_bytes()
        except OSError:
            return None
    return committed(side.commit, path, root)


def committed(commit: str, path: Path, root: Path) -> bytes | None:
    """Return the content of a small file at a commit; None where it holds none.

    Raises:
        GitError: git fails for another reason than that there is no such file.
    """
    try:
        return git("show", f"{commit}:./{path.as_posix()}", cwd=root).encode("utf-8", "surrogateescape")
    except GitError as error:
        if "does not exist in" in error.found or "exists on disk, but not in" in error.found:
            return None
        raise


def _stale(params: Mapping[str, Any], entries: Mapping[str, Any], metrics: bytes) -> tuple[str, ...]:
    """Say why the figures of a revision are not those of its params.yaml, as far as its dvc.lock tells."""
    if not entries:
        return ("dvc.lock is missing or cannot be read, so nothing says what its figures were made from",)
    lines: list[str] = []
    for entry in entries.values():
        recorded = (entry.get("params") or {}).get(PARAMS.as_posix())
        for name, value in recorded.items() if isinstance(recorded, dict) else ():
            present = _value(params, str(name))
            if present is _MISSING:
                lines.append(f"{name} is no longer in params.yaml")
            elif present != value:
                lines.append(f"{name} in params.yaml is another than its stages ran with")
    outs = [out for entry in entries.values() for out in entry.get("outs", []) if out["path"] == METRICS.as_posix()]
    if any(out["md5"] != hashlib.md5(metrics, usedforsecurity=False).hexdigest() for out in outs):
        lines.append("metrics.json is not the file that dvc.lock records")
    return tuple(dict.fromkeys(lines))


def _value(params: Mapping[str, Any], dotted: str) -> Any:
    """Return the value of a dotted name, as DVC finds it; _MISSING where there is none."""
    value: Any = params
    for part in dotted.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value
