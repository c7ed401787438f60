"""`reprise embed`, `reprise probe`, `reprise between`: any backbone on any images, and versions of a run."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.project import at_root, say
from pipeline.compare.evaluation import CODE, Backbone, as_json, copy_embeddings, prepare
from pipeline.compare.evaluation import embed as embed_images
from pipeline.compare.evaluation import probe as probe_embedding
from pipeline.compare.evaluation import refused as refused_files
from reprise.config.errors import printable
from reprise.storage.atomic import atomic_file

app = typer.Typer(rich_markup_mode=None)

Which = Annotated[str, typer.Option("--backbone", help="A run's folder, a .safetensors file, or timm:NAME.")]
Data = Annotated[Path, typer.Option("--data", help="A folder of images; folders in it are classes or splits.")]
Architecture = Annotated[str | None, typer.Option(help="timm name that a .safetensors file belongs to.")]
Stem = Annotated[str | None, typer.Option(help="Of a ResNet: imagenet (default) or small.")]
Size = Annotated[int | None, typer.Option(min=8, max=1024, help="Image side; none: what the architecture is for.")]
Channels = Annotated[int, typer.Option(min=1, max=3, help="Image channels, 1 or 3; a run has its own.")]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="timm:NAME with its published weights.")]
Work = Annotated[Path | None, typer.Option(help="Keep everything that was made in this folder.")]


@app.command()
def embed(
    backbone: Which,
    data: Data,
    out: Annotated[Path, typer.Option(help="The Parquet file to write; the manifest is written beside it.")],
    architecture: Architecture = None,
    stem: Stem = None,
    size: Size = None,
    channels: Channels = 3,
    pretrained: Pretrained = False,
    work: Work = None,
) -> None:
    """Write the embeddings of a folder of images by any backbone."""
    which = _backbone(backbone, architecture, stem, size, channels, pretrained)
    with _folder(work) as folder:
        prepare(folder, data, _base(), augmented=False)
        embed_images(folder, which, _aside)
        _tell_refused(refused_files(folder), work)
        for path in copy_embeddings(folder, out):
            say(str(path))


@app.command()
def probe(
    backbone: Which,
    data: Data,
    architecture: Architecture = None,
    stem: Stem = None,
    size: Size = None,
    channels: Channels = 3,
    pretrained: Pretrained = False,
    json: Annotated[Path | None, typer.Option(help="Write figures and protocols to this file too.")] = None,
    work: Work = None,
) -> None:
    """Run the whole battery of probes on any backbone and a folder of images."""
    which = _backbone(backbone, architecture, stem, size, channels, pretrained)
    with _folder(work) as folder:
        prepare(folder, data, _base(), augmented=True)
        embed_images(folder, which, _aside)
        found = probe_embedding(folder, _aside)
        _tell_refused(found.refused, work)
        for note in found.notes():
            _aside(note)
        _table([["probe", "metric", "value", "interval", "images"], *found.rows()])
        if json is not None:
            with atomic_file(json, "w") as file:
                file.write(as_json(found, which, data))


@app.command()
def between(
    revisions: Annotated[list[str], typer.Argument(help="Git revisions, oldest first; `workspace` is the folder.")],
    run: Annotated[list[str] | None, typer.Option(help="Only this run; may be repeated. None: all.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of every run.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Keep between.json and between.parquet in this folder.")] = None,
) -> None:
    """Compare the embeddings of several revisions: likeness, stitching, compatibility of new with old."""
    from pipeline.compare.representations import compare_versions, tables

    kept = out.absolute() if out else None
    at_root()
    with tempfile.TemporaryDirectory() as scratch:
        target = kept or Path(scratch) / "between"
        told = compare_versions(revisions, run or [], seed, target, Path(scratch), _aside)
    names = [side["name"] for side in told["sides"]]
    for title, rows in tables(told):
        say(title)
        _table([["", *names], *rows])
        say("")
    overall = [(name, found["overall"]) for name, found in told["probes"].items()]
    _table([[f"{name}.{metric}", f"{value:.4f}"] for name, figures in overall for metric, value in figures.items()])


def _backbone(
    name: str, architecture: str | None, stem: str | None, size: int | None, channels: int, pretrained: bool
) -> Backbone:
    given = {"--architecture": architecture, "--stem": stem, "--size": size}
    options = [word for key, value in given.items() if value is not None for word in (key, str(value))]
    options += ["--channels", str(channels)] if channels != 3 else []
    return Backbone(name, (*options, "--pretrained") if pretrained else tuple(options))


def _base() -> Path:
    """params.yaml of the project around, else of the code."""
    for folder in [Path.cwd(), *Path.cwd().parents]:
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return folder / "params.yaml"
    return CODE / "params.yaml"


@contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    """The working folder, which goes away unless it was named."""
    if work is not None:
        yield work.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="reprise-") as folder:
        yield Path(folder) / "work"


def _tell_refused(refused: dict[str, int], work: Path | None) -> None:
    if refused:
        where = f"{work}/data/ingest/quarantine.parquet" if work else "the quarantine (--work FOLDER keeps it)"
        reasons = ", ".join(f"{count} {reason}" for reason, count in refused.items())
        _aside(f"refused: {reasons}; see {where}")


def _table(rows: list[list[str]]) -> None:
    """Columns on a terminal, tab-separated lines elsewhere."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)] if cells else []
    for row in cells:
        aligned = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        print(aligned if sys.stdout.isatty() else "\t".join(row))


def _aside(line: str) -> None:
    """To stderr: stdout is for the result."""
    say(line, sys.stderr)
