"""Evaluate any backbone on any folder of images, by running the stages in a separate working folder.

The working folder is laid out like a project: a params.yaml with one run, and the outputs of ingest, shard, embed and
probe, each run as its own process. Everything that holds for a run of the graph therefore holds here: the rules for
images, the quarantine, the splits by content, the frozen backbone, and the protocols.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.graph.dvc_output import last_lines
from pipeline.processes.commands import OWN_MODULE, CommandFailed, run
from reprise.artifacts import layout
from reprise.artifacts.embeddings import FILE as EMBEDDINGS
from reprise.artifacts.layout import MANIFEST, QUARANTINE
from reprise.artifacts.manifest import read_manifest, read_quarantine
from reprise.artifacts.results import METRICS, read_json
from reprise.config.errors import SourceError, StorageError
from reprise.config.params import read_yaml
from reprise.storage.atomic import atomic_file, write_json

RUN, SEED = "backbone", 0
MARKER = "evaluation.json"  # shows that a folder is a working folder
_COPIED_SECTIONS = (
    "shard",
    "embed",
    "summary",
    "suites",
    "probes",
    "representations",
    "image",
    "cache",
)  # of params.yaml


@dataclass(frozen=True)
class Backbone:
    """The backbone to evaluate.

    Attributes:
        name: the folder of a run, a safetensors file, or `timm:NAME`.
        options: options of stages.embed.adopt.
    """

    name: str
    options: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """Return the arguments of stages.embed.adopt; a path becomes absolute, because the process runs elsewhere."""
        name = self.name if self.name.startswith("timm:") else str(Path(self.name).absolute())
        return ["--backbone", name, *self.options]


@dataclass(frozen=True)
class EvaluationResult:
    """The result of an evaluation.

    Attributes:
        images: number of images by split.
        refused: number of refused files by reason.
        metrics: metrics[probe][metric] is a value with its interval and the number of images.
        protocol: protocol[probe] holds the choices of the probe.
    """

    images: dict[str, int]
    refused: dict[str, int]
    metrics: dict[str, dict[str, dict[str, Any]]]
    protocol: dict[str, dict[str, str]]

    def rows(self) -> list[list[str]]:
        """Return the rows of a table: probe, metric, value, interval, images."""
        return [
            [probe, metric, f"{figure['value']:.4f}", _interval(figure), str(figure["n"])]
            for probe, figures in sorted(self.metrics.items())
            for metric, figure in sorted(figures.items())
        ]

    def notes(self) -> list[str]:
        """Return a sentence for each probe that was not run."""
        return [f"{probe}: {entries['note']}" for probe, entries in sorted(self.protocol.items()) if "note" in entries]


def prepare_work_folder(
    work: Path, data: Path, params_file: Path, augmented: bool, reading: Mapping[str, Any] | None = None
) -> None:
    """Create a working folder, with a params.yaml for one run on the images in `data`.

    Args:
        work: a folder that is new, empty, or a working folder already.
        data: the folder of images.
        params_file: the params.yaml whose probes and rules for images are used.
        augmented: whether augmented copies of the images are embedded too, which only some probes need.
        reading: options of the folder source (what its folders mean, groups, links); by default what the names say.

    Raises:
        SourceError: there is no such folder of images.
        StorageError: `work` holds something else.
    """
    if not data.is_dir():
        raise SourceError(
            "there is no such folder of images",
            where=data,
            found="no folder",
            fix="Name an existing folder with --data FOLDER.",
        )
    if work.exists() and not (work / MARKER).exists() and (not work.is_dir() or any(work.iterdir())):
        raise StorageError(
            "the working folder holds something else",
            where=work,
            found="other files",
            fix="Name an empty or a new folder.",
        )
    raw = read_yaml(params_file)
    source = {k: v for k, v in (raw.get("source") or {}).items() if k not in ("name", "root", "options")}
    params = {name: raw[name] for name in _COPIED_SECTIONS if name in raw}
    params |= {
        "seeds": [SEED],
        "source": {"name": "folder", "root": str(data.absolute()), **source, "options": dict(reading or {})},
        "features": [],
        "mines": [],
        "runs": [{"name": RUN, "method": "random", "labels": "none"}],
        "adapt": [],
        "checks": [],
        "shifts": [],
        "shift_suites": [],
    }
    if not augmented:
        params["embed"] = {**(params.get("embed") or {}), "augmented": 0}
    work.mkdir(parents=True, exist_ok=True)
    write_json(work / MARKER, {"data": str(data.absolute())})
    write_json(work / "params.yaml", params)  # JSON is YAML


def embed_images(work: Path, backbone: Backbone, say: Callable[[str], None]) -> None:
    """Ingest the images, pack them into shards, and embed them with the backbone.

    Raises:
        CommandFailed: a stage ended with an error, which it has explained.
    """
    folder = str(layout.run(RUN, SEED))
    # The backbone comes first, because a wrong name or file should fail before the images are read.
    _run_stage(work, ["stages.embed.adopt", *backbone.arguments(), "--out", folder], say)
    for module in ("stages.ingest.scan", "stages.ingest", "stages.shard"):
        _run_stage(work, [module], say)
    _run_stage(work, ["stages.embed", "--run", RUN, "--seed", str(SEED)], say)


def probe_embeddings(work: Path, say: Callable[[str], None]) -> EvaluationResult:
    """Run every suite of probes on the embeddings.

    Raises:
        CommandFailed: a stage ended with an error, which it has explained.
        ResultError: the results of a probe are damaged.
    """
    metrics: dict[str, Any] = {}
    protocol: dict[str, Any] = {}
    _run_stage(work, ["stages.probe", "--run", RUN, "--seed", str(SEED)], say)
    for suite in [row["name"] for row in read_yaml(work / "params.yaml")["suites"]]:
        folder = work / layout.probes_on_features(RUN, SEED) / suite
        metrics |= read_json(folder / METRICS)
        protocol |= read_json(folder / "protocol.json")
    return EvaluationResult(count_images(work), count_refused(work), metrics, protocol)


def count_images(work: Path) -> dict[str, int]:
    """Count the images by split."""
    return _counts(read_manifest(work / MANIFEST, ["split"])["split"].to_pylist())


def count_refused(work: Path) -> dict[str, int]:
    """Count the refused files by reason."""
    return _counts(read_quarantine(work / QUARANTINE)["reason"].to_pylist())


def copy_embeddings(work: Path, target: Path) -> list[Path]:
    """Copy the embeddings to `target`, with the manifest (keys, paths, labels) and the quarantine beside it.

    Returns:
        The files that were written.
    """
    sources = {
        target: work / layout.embedding(RUN, SEED) / EMBEDDINGS,
        target.with_suffix(".manifest.parquet"): work / MANIFEST,
        target.with_suffix(".quarantine.parquet"): work / QUARANTINE,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    for path, source in sources.items():
        with source.open("rb") as read, atomic_file(path) as file:
            shutil.copyfileobj(read, file)
    return list(sources)


def _run_stage(work: Path, words: Sequence[str], say: Callable[[str], None]) -> None:
    """Run a module of `stages` in the working folder with this copy of the code, and pass its output to `say`."""
    command = [*OWN_MODULE, *words]
    lines: list[str] = []

    def keep(line: str) -> None:
        lines.append(line)
        say(line)

    if code := run(command, cwd=work, on_line=keep):
        raise CommandFailed(command, code, shown=last_lines(lines))


def _counts(values: list[str]) -> dict[str, int]:
    return {value: values.count(value) for value in sorted(set(values))}


def _interval(figure: dict[str, Any]) -> str:
    return "" if figure["low"] is None else f"[{figure['low']:.4f}, {figure['high']:.4f}]"


def evaluation_document(result: EvaluationResult, backbone: Backbone, data: Path) -> dict[str, Any]:
    """Return the result, the backbone and the data for other programs, sorted by name."""
    content = {"backbone": backbone.name, "options": list(backbone.options), "data": str(data), **vars(result)}
    return dict(sorted(content.items()))
