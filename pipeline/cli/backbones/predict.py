"""`reprise predict` and `reprise drift`: what a trained backbone says of images that are new."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipeline.cli.described.completion import runs as complete_runs
from pipeline.cli.described.description import command
from pipeline.cli.exit_codes import ExitCode
from pipeline.cli.output import answer, print_table, say, say_aside
from pipeline.cli.project import AsJson, enter_project

app = typer.Typer(rich_markup_mode=None)
_NUMBERS = ("confidence", "similarity")


@command(
    app,
    examples=["reprise predict photos", "reprise predict photos --head linear --out classes.csv"],
    writes="the CSV file that --out names",
    fields={
        "run": "text: the run that was asked",
        "seed": "integer: its seed",
        "head": "text: knn or linear",
        "images": "list: a row for each file",
        "images[].path": "text: the file, relative to the folder",
        "images[].predicted": "text or null: the class; null where the file was refused",
        "images[].confidence": "number or null: share of the votes, or probability of the head",
        "images[].nearest": "text or null: path of the nearest training image",
        "images[].similarity": "number or null: cosine to it",
        "images[].refused": "text or null: why the file was refused",
    },
)
def predict(
    data: Annotated[Path, typer.Argument(help="Folder of images, from anywhere; folders below it count too.")],
    run: Annotated[
        str | None,
        typer.Option(
            autocompletion=complete_runs,
            help="Run to ask; by default the first that was trained without true labels and is no reference.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the run; by default the first.")] = None,
    head: Annotated[
        Literal["knn", "linear"],
        typer.Option(help="The 20 nearest labelled training images vote, or a linear head decides."),
    ] = "knn",
    out: Annotated[Path | None, typer.Option(help="CSV file to write; by default the table is printed.")] = None,
    as_json: AsJson = False,
) -> None:
    """Predict the classes of new images with a trained backbone.

    Every file gets a row: the class, its share of the votes (or the head's probability), the nearest training image and
    the cosine to it; or why the file was refused. A low cosine tells that the image is like none of the project's.
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
        if table is not None and not as_json:
            return
        with open(target, encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
    if as_json:
        answer({"run": chosen.name, "seed": chosen.seed, "head": head, "images": [_image(header, row) for row in rows]})
    else:
        print_table(header, rows)


@command(
    app,
    examples=["reprise drift", "reprise drift HEAD~1 --run simclr"],
    refused="the new images differ from the others, or took their place and cannot be compared with them",
    fields={
        "revision": "text: the revision with the earlier images",
        "new": "integer: images that came",
        "kept": "integer: images that stayed",
        "gone": "integer: images that are there no longer",
        "relabelled": "integer: images with another label",
        "replaced": "yes/no: whether so few earlier images are left that the new ones are compared with those gone",
        "note": "text or null: why nothing, or not everything, was tested",
        "drifted": "list of text: names of the tests that count",
        "findings": "list: a test each",
        "findings[].name": "text: what is compared",
        "findings[].unit": "text: unit of the difference",
        "findings[].size": "number: the difference",
        "findings[].threshold": "number: the difference from which it counts",
        "findings[].p": "number: p-value with Holm's correction",
        "findings[].drifted": "yes/no: whether the difference counts",
        "findings[].*": "anything: further figures of the test",
    },
)
def drift(
    revision: Annotated[str, typer.Argument(help="Git revision with the earlier images.")] = "HEAD",
    run: Annotated[
        str | None,
        typer.Option(
            autocompletion=complete_runs,
            help="Run whose embeddings are compared; by default as for `reprise predict`, if it is trained.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the run; by default the first.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether the images that have come since a revision differ from the others.

    Class shares, sizes, light and embeddings are compared by permutation tests, outside of the test split. The section
    `drift` of params.yaml says what counts as a difference. Where almost no earlier image is left, the new ones are
    compared with those that are gone.
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
        answer(found.json())
    else:
        for line in found.lines():
            say(line)
        if found.findings:
            print_table(HEADS, found.rows())
    if found.drifted or found.unknown:
        raise typer.Exit(ExitCode.REFUSED)


def _pass_over(line: str) -> None:
    """Leave out what a module says."""


def _image(header: Sequence[str], row: Sequence[str]) -> dict[str, Any]:
    """Return a row of the table with its numbers as numbers, and null where a cell is empty."""
    cells = dict(zip(header, row, strict=True))
    return {name: None if not text else float(text) if name in _NUMBERS else text for name, text in cells.items()}
