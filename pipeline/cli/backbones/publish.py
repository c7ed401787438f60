"""`reprise export`, `promote` and `track`: hand a trained backbone, or its figures, to others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.cli.described.completion import runs as complete_runs
from pipeline.cli.described.description import command
from pipeline.cli.exit_codes import ExitCode
from pipeline.cli.output import answer, say, say_aside
from pipeline.cli.project import AsJson, Wait, enter_project, find_project

app = typer.Typer(rich_markup_mode=None)


@command(
    app,
    examples=["reprise export simclr", "reprise export simclr/0 --to onnx --out simclr-onnx"],
    writes="a new folder with the backbone and a model card: exports/RUN-SEED-FORM unless --out names another",
    fields={
        "folder": "text: the folder that was written",
        "files": "list of text: names of its files",
        "difference": "number: largest difference of a feature from the backbone's, as a share of the largest feature",
    },
)
def export(
    run: Annotated[
        str,
        typer.Argument(
            autocompletion=complete_runs,
            help="Run of this project (simclr; simclr/1 for its seed 1), or a run's folder.",
        ),
    ],
    to: Annotated[
        Literal["timm", "huggingface", "onnx", "torch"],
        typer.Option(
            help="Form: a folder that timm loads; one that transformers and the Hugging Face hub load as well; an ONNX "
            "file; or a program that plain torch loads."
        ),
    ] = "timm",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write; it must not exist. By default exports/RUN-SEED-FORM (exports/simclr-0-timm), and "
            "for a folder exports/FOLDER-FORM."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Export a trained backbone to another program, with a model card.

    What was written is loaded and compared with the backbone on random images; nothing is written if a feature differs
    by more than 1e-4 of the largest one.
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
    if known.old:
        say_aside(
            f"note: {known.old}; the card leaves scores and verdicts out, and `reprise repro` computes them again"
        )
    target = given or Path("exports") / f"{known.run.replace(', seed ', '-')}-{to}"
    done = write_export(found, known, to, target)
    if as_json:
        answer({"folder": target, "files": done.files, "difference": done.difference})
        return
    say(f"{target}: {', '.join(done.files)}; features differ by at most {done.difference:.1g} of the largest one")


@command(
    app,
    examples=["reprise promote simclr", "reprise promote simclr --champion simclr@v1.0.0 --margin 0.01"],
    writes="a git tag (simclr@v1.0.0) on a commit of its own, with promoted/RUN.md; neither branch nor index moves",
    refused="the run is worse than the champion, or nobody can tell, and it is not promoted",
    busy=True,
    fields={
        "challenge": "object or null: the comparison; null with --force",
        "challenge.run": "text: the run",
        "challenge.champion": "text or null: the version that it was compared with",
        "challenge.passed": "yes/no: whether it is no worse",
        "challenge.scores": "object or null: shares of right answers on val, of champion and challenger",
        "challenge.scores.*": "number: the share",
        "challenge.interval": "object: of challenger - champion",
        "challenge.interval.*": "number or null: low and high",
        "challenge.p": "number or null: p-value of the paired test",
        "challenge.over": "text or null: what interval and test are over",
        "challenge.unknown": "text or null: why nobody can tell which is better; nothing is promoted then",
        "challenge.over_images": "object: the difference over images or groups of them, whatever the number of seeds",
        "challenge.over_images.low": "number or null: lower end of its interval",
        "challenge.over_images.high": "number or null: upper end of its interval",
        "challenge.over_images.units": "text or null: what it is over, such as 552 images",
        "challenge.margin": "number: accepted loss",
        "challenge.left_out": "integer: val images that the champion was trained on",
        "challenge.identical": "yes/no: whether the folder's backbone is the last version, which gets no new one",
        "promoted": "object or null: the new version; null where there is none",
        "promoted.tag": "text: its tag",
        "promoted.commit": "text: the commit that it leads to",
        "promoted.card": "text: path of the model card in that commit",
    },
)
def promote(
    run: Annotated[
        str, typer.Argument(autocompletion=complete_runs, help="Run of this project, trained and embedded.")
    ],
    champion: Annotated[
        str | None, typer.Option(help="Git revision to compare with; by default the run's last promoted version.")
    ] = None,
    margin: Annotated[float, typer.Option(min=0.0, max=1.0, help="Accepted loss, a share of the val images.")] = 0.0,
    force: Annotated[bool, typer.Option("--force", help="Promote without comparing.")] = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Promote a run to its next version, unless it is worse than the last one.

    Both backbones answer the same val images. What passes gets a tag (simclr@v1.0.0) on a commit of its own, with its
    model card; neither your branch nor your index moves.
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
        wanted = found is None or (found.passed and not found.identical)
        done = write_tag(run, why, judged=judged) if wanted else None
    if as_json:
        promoted = {"tag": done.tag, "commit": done.commit, "card": done.card.as_posix()} if done else None
        answer({"challenge": found.json() if found else None, "promoted": promoted})
    else:
        for line in why:
            say(line)
        say(f"{done.tag}: {done.commit[:12]}, with {done.card}" if done else f"{run} gets no new version")
    if found and not found.passed:
        raise typer.Exit(ExitCode.REFUSED)


@command(
    app,
    examples=["reprise track tensorboard", "reprise track mlflow --to http://tracking.example.org:5000"],
    writes="runs to the tracker; for TensorBoard files below .reprise/tensorboard, for MLflow a database in .reprise, "
    "for Weights & Biases files below .reprise/wandb",
    fields={
        "place": "text: where the runs are",
        "written": "list of text: runs that were written now",
        "there": "list of text: runs that were there already",
        "left_out": "list of text: runs whose figures are older than their parameters, data or code",
    },
)
def track(
    tracker: Annotated[Literal["tensorboard", "mlflow", "wandb"], typer.Argument(help="Where runs are published.")],
    to: Annotated[
        str | None,
        typer.Option(
            help="Folder of TensorBoard, tracking URI of MLflow, or project of Weights & Biases. By default "
            ".reprise/tensorboard, a database in .reprise, and the folder's name."
        ),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(autocompletion=complete_runs, help="Run to publish. May be repeated; all runs by default."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Publish finished runs to a tracker of experiments.

    Each run and seed becomes a run there: its parameters, curves, and figures with their intervals. Runs that are there
    already are passed over, so the same command after every `reprise repro` adds what is new. Runs whose figures are
    older than the folder's parameters, data or code are left out.
    """
    from pipeline.exports.trackers.publish import publish

    enter_project()
    done = publish(tracker, to, run or [])
    if done.left_out:
        say_aside(
            f"note: left out, because their figures are older than the folder: {', '.join(done.left_out)}; "
            "`reprise repro` computes them again"
        )
    if as_json:
        answer(done._asdict())
        return
    say(
        f"written: {', '.join(done.written) or 'nothing new'}"
        + (f"; there already: {len(done.there)}" if done.there else "")
    )
    say(done.place)
