"""Use and evaluate backbones: `reprise export`, `predict`, `drift`, `promote`, `embed`, `probe`, ...."""

from __future__ import annotations

import csv
import json as json_text
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipeline.cli.output import print_table, say, say_aside
from pipeline.cli.project import Wait, enter_project, find_project
from pipeline.compare.evaluation import (
    Backbone,
    as_json,
    copy_embeddings,
    count_refused,
    embed_images,
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


@app.command()
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
) -> None:
    """Embed a folder of images with any backbone."""
    chosen = _backbone(backbone, architecture, stem, size, channels, pretrained)
    with _work_folder(work) as folder:
        prepare_work_folder(folder, data, _params_file(), augmented=False, reading=_reading(reading))
        embed_images(folder, chosen, say_aside)
        _report_refused(count_refused(folder), work)
        for path in copy_embeddings(folder, out):
            say(str(path))


@app.command()
def probe(
    backbone: BackboneName,
    data: Data,
    architecture: Architecture = None,
    stem: Stem = None,
    size: Size = None,
    channels: Channels = 3,
    pretrained: Pretrained = False,
    json: Annotated[Path | None, typer.Option(help="Also write metrics and protocols to this file.")] = None,
    reading: Reading = None,
    work: Work = None,
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
        print_table(["probe", "metric", "value", "interval", "images"], result.rows())
        if json is not None:
            with atomic_file(json, "w") as file:
                file.write(as_json(result, chosen, data))


@app.command()
def compare_representations(
    revisions: Annotated[
        list[str], typer.Argument(help="Git revisions, oldest first; `workspace` means the folder as it is.")
    ],
    run: Annotated[list[str] | None, typer.Option(help="Run to compare. May be repeated; all runs by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the runs.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Keep the JSON and Parquet files in this folder.")] = None,
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


@app.command()
def export(
    run: Annotated[
        str, typer.Argument(help="Run of this project (simclr; simclr/1 for its seed 1), or a run's folder.")
    ],
    to: Annotated[
        Literal["timm", "huggingface", "onnx", "torch"],
        typer.Option(
            help="Form: a folder that timm loads; one that transformers and the Hugging Face hub load as well; an ONNX "
            "file; or a program that plain torch loads."
        ),
    ] = "timm",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; it must not exist. By default exports/RUN-FORM.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")] = False,
) -> None:
    """Export a trained backbone to another program, with a model card.

    What was written is loaded and compared with the backbone on random images; nothing is written if a feature differs
    by more than 1e-4 of the largest one.

    Example: reprise export simclr --to onnx
    """
    from pipeline.exports.export import export as write_export
    from pipeline.exports.export import run_folder

    given = out.absolute() if out else None
    folder = Path(run)
    outside = folder.is_dir() and (folder / "config.json").is_file()
    if outside:
        run = str(folder.absolute())
    if not outside or find_project() is not None:
        enter_project()
    found, known = run_folder(run)
    target = given or Path("exports") / f"{known.run.replace(', seed ', '-')}-{to}"
    done = write_export(found, known, to, target)
    if as_json:
        print(json_text.dumps({"folder": str(target), "files": done.files, "difference": done.difference}, indent=2))
        return
    say(f"{target}: {', '.join(done.files)}; features differ by at most {done.difference:.1g} of the largest one")


@app.command()
def predict(
    data: Annotated[Path, typer.Argument(help="Folder of images, from anywhere; folders below it count too.")],
    run: Annotated[
        str | None,
        typer.Option(help="Run to ask; by default the first that was trained without true labels and is no reference."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the run; by default the first.")] = None,
    head: Annotated[
        Literal["knn", "linear"],
        typer.Option(help="The 20 nearest labelled training images vote, or a linear head decides."),
    ] = "knn",
    out: Annotated[Path | None, typer.Option(help="CSV file to write; by default the table is printed.")] = None,
) -> None:
    """Predict the classes of new images with a trained backbone.

    Every file gets a row: the class, its share of the votes (or the head's probability), the nearest training image and
    the cosine to it; or why the file was refused. A low cosine tells that the image is like none of the project's.

    Example: reprise predict photos/ --out classes.csv
    """
    from pipeline.graph.stage_modules import run_module
    from pipeline.images.chosen_run import chosen_run, note_old_figures

    folder, table = data.absolute(), out.absolute() if out else None
    enter_project()
    chosen = chosen_run(run, seed)
    note_old_figures(chosen, say_aside)
    with tempfile.TemporaryDirectory() as scratch:
        target = table or Path(scratch) / "predictions.csv"
        arguments = ["--run", chosen.name, "--seed", str(chosen.seed), "--head", head, "--out", str(target)]
        run_module(
            "stages.embed.outside.predict", [*arguments, "--data", str(folder)], Path(), None if table else _pass_over
        )
        if table is None:
            with open(target, encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file)
            print_table(header, rows)


@app.command()
def drift(
    revision: Annotated[str, typer.Argument(help="Git revision with the earlier images.")] = "HEAD",
    run: Annotated[
        str | None,
        typer.Option(help="Run whose embeddings are compared; by default as for `reprise predict`, if it is trained."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the run; by default the first.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")] = False,
) -> None:
    """Tell whether the images that have come since a revision differ from the others.

    Class shares, sizes, light and embeddings are compared by permutation tests, outside of the test split. The section
    `drift` of params.yaml says what counts as a difference. The exit status is 1 if the new images differ.

    Example: reprise drift HEAD~1
    """
    from pipeline.compare.drift import HEADS, data_drift
    from pipeline.images.chosen_run import chosen_run
    from reprise.artifacts import layout

    enter_project()
    chosen = chosen_run(run, seed)
    folder = layout.run(chosen.name, chosen.seed)
    trained = run is not None or (folder / "config.json").is_file()
    found = data_drift(revision, folder if trained else None, on_line=say_aside)
    if as_json:
        print(json_text.dumps(found.json(), indent=2))
    else:
        for line in found.lines():
            say(line)
        if found.findings:
            print_table(HEADS, found.rows())
    if found.drifted:
        raise typer.Exit(1)


@app.command()
def promote(
    run: Annotated[str, typer.Argument(help="Run of this project, trained and embedded.")],
    champion: Annotated[
        str | None, typer.Option(help="Git revision to compare with; by default the run's last promoted version.")
    ] = None,
    margin: Annotated[float, typer.Option(min=0.0, max=1.0, help="Accepted loss, a share of the val images.")] = 0.0,
    force: Annotated[bool, typer.Option("--force", help="Promote without comparing.")] = False,
    wait: Wait = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")] = False,
) -> None:
    """Promote a run to its next version, unless it is worse than the last one.

    Both backbones answer the same val images. What passes gets a tag (simclr@v1.0.0) on a commit of its own, with its
    model card; neither your branch nor your index moves. The exit status is 1 if the run is worse.

    Example: reprise promote simclr
    """
    from pipeline.compare.challenge import challenge
    from pipeline.exports.promote import lock_digest
    from pipeline.exports.promote import promote as write_tag
    from pipeline.graph.workspace import exclusive

    enter_project()
    with exclusive(Path(), wait=wait, say=say_aside):  # what was compared is what gets the tag
        judged = lock_digest()
        found = None if force else challenge(run, champion=champion, margin=margin, on_line=say_aside)
        why = found.lines() if found else ["Promoted without a comparison."]
        done = write_tag(run, why, judged=judged) if found is None or found.passed else None
    if as_json:
        promoted = {"tag": done.tag, "commit": done.commit, "card": done.card.as_posix()} if done else None
        print(json_text.dumps({"challenge": found.json() if found else None, "promoted": promoted}, indent=2))
    else:
        for line in why:
            say(line)
        say(f"{done.tag}: {done.commit[:12]}, with {done.card}" if done else f"{run} is not promoted")
    if done is None:
        raise typer.Exit(1)


@app.command()
def track(
    tracker: Annotated[Literal["tensorboard", "mlflow", "wandb"], typer.Argument(help="Where runs are published.")],
    to: Annotated[
        str | None,
        typer.Option(
            help="Folder of TensorBoard, tracking URI of MLflow, or project of Weights & Biases. By default "
            ".reprise/tensorboard, a database in .reprise, and the folder's name."
        ),
    ] = None,
    run: Annotated[list[str] | None, typer.Option(help="Run to publish. May be repeated; all runs by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")] = False,
) -> None:
    """Publish finished runs to a tracker of experiments.

    Each run and seed becomes a run there: its parameters, curves, and figures with their intervals. Runs that are there
    already are passed over, so the same command after every `reprise repro` adds what is new.

    Example: reprise track mlflow --to http://tracking.example.org:5000
    """
    from pipeline.exports.trackers.publish import publish

    enter_project()
    done = publish(tracker, to, run or [])
    if as_json:
        print(json_text.dumps(done._asdict(), indent=2))
        return
    say(
        f"written: {', '.join(done.written) or 'nothing new'}"
        + (f"; there already: {len(done.there)}" if done.there else "")
    )
    say(done.place)


def _pass_over(line: str) -> None:
    """Leave out what a module says."""


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
