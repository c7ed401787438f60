"""The stages on any backbone and any folder of images, in a working folder of their own.

The working folder is laid out as a project is: a params.yaml for one run, then ingest, shard, embed and probe by the
stages' own processes. So whatever holds for a run of the graph holds here: rules for images, quarantine, splits by
content, a frozen backbone, protocols.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.processes.processes import CommandFailed, run
from reprise.artifacts.embeddings import FILE as EMBEDDINGS
from reprise.artifacts.manifest import MANIFEST, QUARANTINE, read_manifest, read_quarantine
from reprise.artifacts.results import METRICS, read_json
from reprise.config.errors import SourceError, StorageError
from reprise.config.params import read_yaml
from reprise.storage.atomic import atomic_file, write_json

CODE = Path(__file__).resolve().parents[2]  # of the packages `pipeline` and `stages`, and of their params.yaml
RUN, SEED = "backbone", 0
MARK = "battery.json"  # a working folder of ours
_TAKEN = ("shard", "embed", "summary", "probes", "between", "groups", "image")


@dataclass(frozen=True)
class Backbone:
    """What to measure: a run's folder, a safetensors file or `timm:NAME`, and options of stages.embed.adopt."""

    name: str
    options: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """For the process; a path is made absolute, since it runs elsewhere."""
        name = self.name if self.name.startswith("timm:") else str(Path(self.name).absolute())
        return ["--backbone", name, *self.options]


@dataclass(frozen=True)
class Found:
    """What the battery found: metrics[probe][metric] is a figure, protocol[probe] its choices, refused the reasons."""

    images: dict[str, int]
    refused: dict[str, int]
    metrics: dict[str, dict[str, dict[str, Any]]]
    protocol: dict[str, dict[str, str]]

    def rows(self) -> list[list[str]]:
        """For a table: probe, metric, value, interval, images."""
        return [
            [probe, metric, f"{figure['value']:.4f}", _interval(figure), str(figure["n"])]
            for probe, figures in sorted(self.metrics.items())
            for metric, figure in sorted(figures.items())
        ]

    def notes(self) -> list[str]:
        """A sentence for each probe that was not run."""
        return [f"{probe}: {entries['note']}" for probe, entries in sorted(self.protocol.items()) if "note" in entries]


def prepare(work: Path, data: Path, base: Path, augmented: bool) -> None:
    """Make a working folder: params.yaml of one run on the images in `data`.

    Args:
        work: empty, new, or a working folder of before. base: the params.yaml whose probes and rules are taken.
        augmented: whether changed copies of images are embedded, which only some probes need.

    Raises:
        SourceError: no such folder of images. StorageError: `work` holds something else.
    """
    if not data.is_dir():
        raise SourceError(
            "there is no such folder of images", where=data, found="nothing", fix="Name a folder, with --data FOLDER."
        )
    if work.exists() and not (work / MARK).exists() and (not work.is_dir() or any(work.iterdir())):
        raise StorageError(
            "the working folder holds something else", where=work, found="files", fix="Name an empty or a new folder."
        )
    raw = read_yaml(base)
    source = {k: v for k, v in (raw.get("source") or {}).items() if k not in ("name", "root", "options")}
    params = {name: raw[name] for name in _TAKEN if name in raw}
    params |= {
        "seeds": [SEED],
        "source": {"name": "folder", "root": str(data.absolute()), **source},
        "features": [],
        "mines": [],
        "runs": [{"name": RUN, "method": "random", "labels": "none"}],
    }
    if not augmented:
        params["embed"] = {**(params.get("embed") or {}), "augmented": 0}
    work.mkdir(parents=True, exist_ok=True)
    write_json(work / MARK, {"data": str(data.absolute())})
    write_json(work / "params.yaml", params)  # JSON is YAML


def embed(work: Path, backbone: Backbone, say: Callable[[str], None]) -> None:
    """Take in the images, pack them, and embed them by the backbone.

    Raises:
        CommandFailed: a stage ended with an error, which it has explained.
    """
    folder = f"data/runs/{RUN}/{SEED}"
    _stage(work, ["stages.embed.adopt", *backbone.arguments(), "--out", folder], say)  # first: it fails soonest
    for module in ("stages.ingest.scan", "stages.ingest", "stages.shard"):
        _stage(work, [module], say)
    _stage(work, ["stages.embed", "--run", RUN, "--seed", str(SEED)], say)


def probe(work: Path, say: Callable[[str], None]) -> Found:
    """Every group of probes on the embedding.

    Raises:
        CommandFailed: a stage ended with an error, which it has explained. ResultError: its results are damaged.
    """
    metrics: dict[str, Any] = {}
    protocol: dict[str, Any] = {}
    for group in [row["name"] for row in read_yaml(work / "params.yaml")["groups"]]:
        _stage(work, ["stages.probe", "--run", RUN, "--seed", str(SEED), "--group", group], say)
        folder = work / "data/probe" / RUN / str(SEED) / group
        metrics |= read_json(folder / METRICS)
        protocol |= read_json(folder / "protocol.json")
    return Found(images(work), refused(work), metrics, protocol)


def images(work: Path) -> dict[str, int]:
    """Images a split."""
    return _counts(read_manifest(work / MANIFEST, ["split"])["split"].to_pylist())


def refused(work: Path) -> dict[str, int]:
    """Files that were not taken in, a reason."""
    return _counts(read_quarantine(work / QUARANTINE)["reason"].to_pylist())


def copy_embeddings(work: Path, target: Path) -> list[Path]:
    """Copy the embeddings to `target`, and beside it the manifest (keys, paths, labels) and the quarantine."""
    sources = {
        target: work / "data/embed" / RUN / str(SEED) / EMBEDDINGS,
        target.with_suffix(".manifest.parquet"): work / MANIFEST,
        target.with_suffix(".quarantine.parquet"): work / QUARANTINE,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    for path, source in sources.items():
        with source.open("rb") as read, atomic_file(path) as file:
            shutil.copyfileobj(read, file)
    return list(sources)


def _stage(work: Path, words: Sequence[str], say: Callable[[str], None]) -> None:
    """`python -m ...` in the working folder, with this code; what it writes goes to `say`."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(CODE), *([before] if before else [])])
    try:
        command = [sys.executable, "-m", *words]
        if code := run(command, cwd=work, on_line=say):
            raise CommandFailed(command, code)  # it has explained itself through `say`
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _counts(values: list[str]) -> dict[str, int]:
    return {value: values.count(value) for value in sorted(set(values))}


def _interval(figure: dict[str, Any]) -> str:
    return "" if figure["low"] is None else f"[{figure['low']:.4f}, {figure['high']:.4f}]"


def as_json(found: Found, backbone: Backbone, data: Path) -> str:
    """Everything that was found, for other programs."""
    told = {"backbone": backbone.name, "options": list(backbone.options), "data": str(data), **vars(found)}
    return json.dumps(told, indent=2, sort_keys=True) + "\n"
