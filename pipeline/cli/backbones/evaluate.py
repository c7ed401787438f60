"""`reprise embed`, `probe` and `compare-representations`: judge any backbone, on any folder of images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.described.completion import runs as complete_runs
from pipeline.cli.described.description import command
from pipeline.cli.output import answer, print_table, say, say_aside, to_json
from pipeline.cli.project import AsJson, enter_project, find_project
from pipeline.compare.evaluation import (
    Backbone,
    copy_embeddings,
    count_refused,
    embed_images,
    evaluation_document,
    prepare_work_folder,
    probe_embeddings,
)
from reprise.storage.atomic import atomic_file
from reprise.storage.code.places import PROJECT_FILES

app = typer.Typer(rich_markup_mode=None)

BackboneName = Annotated[
    str, typer.Option("--backbone", help="Folder of a run, a .safetensors file, or timm:NAME for a model of timm.")
]
Data = Annotated[
    Path, typer.Option("--data", help="Folder of images; its subfolders are classes, or splits with classes in them.")
]
Architecture = Annotated[
    str | None, typer.Option(help="Architecture of a .safetensors file: resnet_tiny or the name of a timm model.")
]
Stem = Annotated[str | None, typer.Option(help="Stem of a ResNet: imagenet (default) or small.")]
Size = Annotated[
    int | None, typer.Option(min=8, max=1024, help="Image side in pixels; by default what the architecture expects.")
]
Channels = Annotated[
    int,
    typer.Option(
        min=1, max=64, help="Image channels: 1, 3, or the bands of the images; ignored for a run, which has its own."
    ),
]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="Load the published weights of timm:NAME.")]
Reading = Annotated[
    list[str] | None,
    typer.Option(
        "--reading",
        metavar="NAME=VALUE",
        help="An option of the source (source.options of params.yaml), such as labels=none. May be repeated.",
    ),
]
Work = Annotated[Path | None, typer.Option(help="Keep all intermediate files in this folder.")]


@command(
    app,
    examples=["reprise embed --backbone timm:resnet18 --pretrained --data photos --out photos.parquet"],
    writes="the Parquet file that --out names, and beside it NAME.manifest.parquet and NAME.quarantine.parquet",
    fields={
        "files": "list of text: files that were written: embeddings, manifest, quarantine",
        "refused": "object: number of refused files by reason",
        "refused.*": "integer: number of files",
    },
)
def embed(
    backbone: BackboneName,
    data: Data,
    out: Annotated[Path, typer.Option(help="Parquet file to write; the manifest is written beside it.")],
    architecture: Architecture = None,
    stem: Stem = None,
    size: Size = None,
    channels: Channels = 3,
    pretrained: Pretrained = False,
    reading: Reading = None,
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Embed a folder of images with any backbone."""
    chosen = _backbone(backbone, architecture, stem, size, channels, pretrained)
    with _work_folder(work) as folder:
        prepare_work_folder(folder, data, _params_file(), augmented=False, reading=_reading(reading))
        embed_images(folder, chosen, say_aside)
        _report_refused(count_refused(folder), work)
        refused = count_refused(folder)
        files = copy_embeddings(folder, out)
    if as_json:
        answer({"files": files, "refused": refused})
        return
    for path in files:
        say(str(path))


@command(
    app,
    examples=[
        "reprise probe --backbone timm:resnet18 --pretrained --data photos",
        "reprise probe --backbone data/runs/simclr/0 --data photos --out found.json",
    ],
    writes="what --out and --work name",
    fields={
        "backbone": "text: as it was named",
        "options": "list of text: options of the backbone",
        "data": "text: the folder of images",
        "images": "object: number of images by split",
        "images.*": "integer: number of images",
        "refused": "object: number of refused files by reason",
        "refused.*": "integer: number of files",
        "metrics": "object: probe -> metric -> figure",
        "metrics.*.*.value": "number: the figure",
        "metrics.*.*.low": "number or null: lower end of its interval",
        "metrics.*.*.high": "number or null: upper end of its interval",
        "metrics.*.*.n": "integer: number of images",
        "protocol": "object: probe -> choice -> text",
        "protocol.*.*": "text: a choice of the probe; `note` says why it was not run",
    },
)
def probe(
    backbone: BackboneName,
    data: Data,
    architecture: Architecture = None,
    stem: Stem = None,
    size: Size = None,
    channels: Channels = 3,
    pretrained: Pretrained = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write metrics and protocols to this file, as --json prints them.")
    ] = None,
    reading: Reading = None,
    work: Work = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate any backbone on a folder of images.

    Every probe of params.yaml is run; without class folders, only those that need no labels.
    """
    chosen = _backbone(backbone, architecture, stem, size, channels, pretrained)
    with _work_folder(work) as folder:
        prepare_work_folder(folder, data, _params_file(), augmented=True, reading=_reading(reading))
        embed_images(folder, chosen, say_aside)
        result = probe_embeddings(folder, say_aside)
        _report_refused(result.refused, work)
        for note in result.notes():
            say_aside(note)
    document = evaluation_document(result, chosen, data)
    if out is not None:
        with atomic_file(out, "w") as file:
            file.write(f"{to_json(document)}\n")
    if as_json:
        answer(document)
        return
    print_table(["probe", "metric", "value", "interval", "images"], result.rows())


@command(
    app,
    examples=["reprise compare-representations HEAD~1 workspace --run simclr"],
    writes="representations.json and representations.parquet into the folder that --out names",
    fields={
        "encoders": "list: what is compared, in the order of the rows and columns below",
        "encoders[].name": "text: run and revision",
        "encoders[].*": "anything: what the embeddings are",
        "probes": "object: probe -> its result",
        "probes.*.metrics": "object: metric -> a row for each encoder",
        "probes.*.metrics.*": "list: rows of numbers or null, a column for each encoder",
        "probes.*.overall": "object: metric -> number",
        "probes.*.overall.*": "number or null: the figure",
        "probes.*.*": "anything: caption and protocol of the probe",
        "*": "anything: further fields of representations.json",
    },
)
def compare_representations(
    revisions: Annotated[
        list[str], typer.Argument(help="Git revisions, oldest first; `workspace` means the folder as it is.")
    ],
    run: Annotated[
        list[str] | None,
        typer.Option(autocompletion=complete_runs, help="Run to compare. May be repeated; all runs by default."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the runs.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Keep the JSON and Parquet files in this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the embeddings of several revisions.

    The tables show similarity, stitching, and the compatibility of new embeddings with old ones.
    """
    from pipeline.compare.representations import compare_encoders, similarity_tables

    output_folder = out.absolute() if out else None
    enter_project()
    with tempfile.TemporaryDirectory() as scratch:
        target = output_folder or Path(scratch) / "representations"
        comparison = compare_encoders(revisions, run or [], seed, target, Path(scratch), say_aside)
    if as_json:
        answer(comparison)
        return
    names = [encoder["name"] for encoder in comparison["encoders"]]
    for title, rows in similarity_tables(comparison):
        say(title)
        print_table(["", *names], rows)
        say("")
    for probe, result in comparison["probes"].items():
        if "note" in result["protocol"]:
            say(f"{probe}: {result['protocol']['note']}")
    overall = [(probe, result["overall"]) for probe, result in comparison["probes"].items()]
    print_table(
        ["metric", "value"],
        [[f"{probe}.{metric}", f"{value:.4f}"] for probe, values in overall for metric, value in values.items()],
    )


def _backbone(
    name: str, architecture: str | None, stem: str | None, size: int | None, channels: int, pretrained: bool
) -> Backbone:
    values = {"--architecture": architecture, "--stem": stem, "--size": size}
    options = [word for key, value in values.items() if value is not None for word in (key, str(value))]
    options += ["--channels", str(channels)] if channels != 3 else []
    return Backbone(name, (*options, "--pretrained") if pretrained else tuple(options))


def _reading(options: list[str] | None) -> dict[str, Any]:
    """Parse options of the folder source; their values are YAML."""
    from ruamel.yaml import YAML, YAMLError

    found: dict[str, Any] = {}
    for option in options or []:
        name, equals, value = option.partition("=")
        try:
            found[name] = YAML(typ="safe", pure=True).load(value)
        except YAMLError:
            equals = ""
        if not name or not equals:
            raise typer.BadParameter(
                f"write NAME=VALUE, for example labels=none, not {option!r}", param_hint="--reading"
            )
    return found


def _params_file() -> Path:
    """Return the params.yaml of the project around the current folder, or else the one that comes with Reprise."""
    return (find_project() or PROJECT_FILES) / "params.yaml"


@contextmanager
def _work_folder(work: Path | None) -> Iterator[Path]:
    """Yield the working folder; a temporary one, which is removed afterwards, unless the user named one."""
    if work is not None:
        yield work.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="reprise-") as folder:
        yield Path(folder) / "work"


def _report_refused(refused: dict[str, int], work: Path | None) -> None:
    if refused:
        where = f"{work}/data/ingest/quarantine.parquet" if work else "the quarantine (keep it with --work FOLDER)"
        reasons = ", ".join(f"{count} {reason}" for reason, count in refused.items())
        say_aside(f"refused: {reasons}; see {where}")
