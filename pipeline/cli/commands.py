"""The commands of `reprise`: parse the command line, call one function, print the result."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import evaluation, flows, init, remote, status, sweep
from pipeline.cli.comparisons import compare, history
from pipeline.cli.init import print_presets
from pipeline.cli.listing import list_plug_ins, list_stage_states, plug_in_table
from pipeline.cli.output import print_table, say, say_aside
from pipeline.cli.project import Jobs, ShareCheckpoints, Wait, WorkersAddress, enter_project
from pipeline.graph import dvc, stage_modules
from pipeline.graph.definition import load_graph
from pipeline.graph.ingested import data_option
from pipeline.graph.jobs.repro import repro as run_graph
from pipeline.graph.machines.places import Elsewhere

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train representations of images without labels, and measure what they are worth.",
)


def _show_version(asked: bool) -> None:
    if asked:
        from pipeline.graph.running.doctor import reprise_version

        print(reprise_version())
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train representations of images without labels, and measure what they are worth."""


app.add_typer(init.app)
app.add_typer(flows.app, name="flows")
app.add_typer(status.app)
app.add_typer(sweep.app)
app.add_typer(remote.app)
app.add_typer(evaluation.app)
app.add_typer(compare.app)
app.add_typer(history.app)

Targets = Annotated[
    list[str] | None,
    typer.Argument(help="Stages such as `pretrain`, `pretrain/simclr` or `pretrain/simclr/0`; all stages by default."),
]


@app.command()
def repro(
    targets: Targets = None,
    wait: Wait = False,
    force: Annotated[bool, typer.Option("--force", help="Run the stages even if nothing changed.")] = False,
    jobs: Jobs = None,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going/--fail-fast",
            help="After a failure, run all stages that do not depend on what failed, or end the run at once.",
        ),
    ] = True,
    workers: WorkersAddress = None,
    share_checkpoints: ShareCheckpoints = None,
) -> None:
    """Run every stage that is not up to date.

    Stages that do not depend on each other run at once, as many as --jobs allows, within the machine's memory and with
    a GPU for each training where there are GPUs. The results do not depend on their number. With --jobs 1, one DVC runs
    them one after the other. Each stage computes with one thread, unless REPRISE_THREADS says otherwise. With
    --workers, other machines compute the stages (`reprise worker`), and their results are restored here.

    Before the first stage, the parameters are checked, the source of images is scanned, what a killed run left behind
    is repaired, and the results of rows that left params.yaml are removed.
    """
    enter_project()
    elsewhere = Elsewhere(workers, share_checkpoints) if workers else None
    run_graph(targets or [], jobs=jobs, wait=wait, force=force, fail_fast=not keep_going, elsewhere=elsewhere, say=say)


@app.command()
def why(targets: Targets = None) -> None:
    """Show which stages would run, and why."""
    enter_project()
    _say_what_runs()
    say(dvc.why(targets or []).text())


@app.command()
def check() -> None:
    """Check all parameters and report every problem.

    They are held against each other, against the images where ingest has taken them in, and against this machine. What
    cannot run on this machine only is a warning, since the graph may run on another.
    """
    enter_project()
    stage_modules.check(again=True, machine=True)
    say("params.yaml: every parameter is valid" + ("" if data_option(Path()) else "; no images were looked at"))


@app.command()
def scan() -> None:
    """Scan the source of images.

    The result is source.lock.json, on which the graph depends.
    """
    enter_project()
    stage_modules.scan()


@app.command()
def prune(wait: Wait = False) -> None:
    """Remove results of rows that left params.yaml.

    Rows are runs, seeds, label sets, extractors and suites of probes. DVC's cache keeps the results, so a row that
    comes back is restored without running.
    """
    enter_project()
    for line in dvc.prune_workspace(wait=wait, say=say).lines() or ["nothing to prune"]:
        say(line)


@app.command()
def runs() -> None:
    """List the stages with their names and states."""
    enter_project()
    _say_what_runs()
    stage_modules.check()
    graph = load_graph()
    rows = [[title, name, state] for name, title, state in list_stage_states(graph, dvc.status(graph=graph))]
    print_table(["stage", "DVC's name", "state"], rows)


@app.command("list")
def plug_ins(
    kind: Annotated[
        str | None, typer.Argument(help="Kind of plug-in: methods, miners, probes, probes/quality, ...; or presets.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all that is known as JSON, for programs.")] = False,
) -> None:
    """List the plug-ins of one kind, or of all.

    For one kind the list also has the source of each plug-in, and the tests and pages that check it. The maturity is
    `measured here` where a page of the documentation has a figure of what it achieves, `restated only` where tests
    restate its publication, `tested` where it has none, and `not stated` where its file does not say what checks it.

    `presets` lists the presets of `reprise init`, and needs no project.
    """
    if kind in ("presets", "preset"):
        print_presets(as_json=as_json)
        return
    enter_project()
    found = list_plug_ins(kind)
    if as_json:
        print(json.dumps([plug_in.json() for plug_in in found], indent=2))
        return
    header, *rows = plug_in_table(found, whole=kind is not None)
    print_table(header, rows)


@app.command()
def params(
    name: Annotated[
        str | None,
        typer.Argument(help="Section of params.yaml, plug-in (methods/simclr), kind, or parameter (train.epochs)."),
    ] = None,
) -> None:
    """Show the parameters of a section or plug-in, or one parameter by its dotted name."""
    enter_project()
    stage_modules.describe_parameters(name)


@app.command()
def views(
    run: Annotated[
        str | None, typer.Option(help="Run whose views are shown; by default those of the section `train`.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show every change that there is, not only the run's.")] = False,
    moments: Annotated[
        bool, typer.Option("--moments", help="Print mean and deviation of each change, in closed form and measured.")
    ] = False,
    out: Annotated[Path, typer.Option(help="HTML page to write.")] = Path(".reprise/views.html"),
) -> None:
    """Show what the changes of a run make of your own pictures.

    A self-contained page shows each change alone, and whole views, on training images.
    """
    enter_project()
    chosen = [] if run is None else ["--run", run]
    flags = [flag for flag, wanted in (("--all", every), ("--moments", moments)) if wanted]
    stage_modules.show_views([*chosen, *flags, "--out", str(out)])


Run = Annotated[
    str | None,
    typer.Option(help="Run to ask; by default the first that was trained without true labels and is no reference."),
]
CROISSANT = Path("croissant.json")  # in the project
SEARCH_PAGE = Path(".reprise/search.html")  # in the project; another page lies where the user is
SeedOfRun = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the run; by default the first.")]


@app.command()
def clusters(
    run: Run = None,
    seed: SeedOfRun = None,
    export: Annotated[
        Path | None,
        typer.Option(help="New or empty folder to fill, with a folder for each cluster; or FILE.csv, for a table."),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Export hard links to your files in place of copies; do not edit them.")
    ] = False,
) -> None:
    """Show the clusters of a trained embedding, or export them.

    The probe `clustering` finds them without labels. An export copies your files; the files themselves are only read.
    Nothing is overwritten. Certainty is 0 between two clusters and 1 on a centre.
    """
    from pipeline.images.chosen_run import chosen_run, note_old_figures
    from pipeline.images.clusters import OVERVIEW, in_words, members_of, overview
    from pipeline.images.clusters import export as export_clusters

    target = export.absolute() if export else None
    enter_project()
    chosen = chosen_run(run, seed)
    members = members_of(chosen)
    note_old_figures(chosen, say_aside)
    if target is None:
        print_table(OVERVIEW, overview(members))
        return
    done = export_clusters(members, target, link=link)
    say(f"{target}: {in_words(members, done)}, of the run {chosen.name} with seed {chosen.seed}")


@app.command()
def search(
    image: Annotated[Path, typer.Argument(help="File of an image, from anywhere.")],
    run: Run = None,
    seed: SeedOfRun = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many images to find.")] = 20,
    page: Annotated[Path, typer.Option(help="HTML page to write; it holds the pictures.")] = SEARCH_PAGE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")] = False,
) -> None:
    """Find the images that a trained backbone takes for most like another one.

    The image is examined, scaled and embedded as those of the data set are. A table of the nearest images is printed,
    and a self-contained page shows them.
    """
    from pipeline.images.chosen_run import chosen_run, note_old_figures
    from pipeline.images.search import FOUND, rows_of
    from pipeline.images.search import search as search_images

    picture, written = image.absolute(), page if page == SEARCH_PAGE else page.absolute()
    enter_project()
    chosen = chosen_run(run, seed)
    note_old_figures(chosen, say_aside)
    found = search_images(picture, chosen, top, written)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print_table(FOUND, rows_of(found))
    say_aside(f"page: {written}")


@app.command()
def croissant(
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write; addresses are relative to it.")] = CROISSANT,
    name: Annotated[str | None, typer.Option(help="Name of the data set; by default that of its source.")] = None,
    url: Annotated[str | None, typer.Option(help="Page of the data set, where it has one.")] = None,
    date: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day on which the data set was published.")
    ] = None,
) -> None:
    """Describe the data set in Croissant's form, which other tools read.

    The description (JSON-LD) names the shards and tables with their SHA-256, and says how to read images, labels,
    splits and facts from them. Nothing is copied and no result changes.
    """
    from reprise.artifacts.croissant import describe
    from reprise.storage.atomic import write_json

    written = out if out == CROISSANT else out.absolute()
    enter_project()
    described = describe(written.parent, name, url, date.date().isoformat() if date else None)
    write_json(written, described)
    say(f"{written}: record sets {', '.join(records['name'] for records in described['recordSet'])}")


def _say_what_runs() -> None:
    """Say in a line that something runs, because what is shown then may change at any moment."""
    from pipeline.graph.running.words import report_running

    line = report_running().summary()
    if line:
        say_aside(line)
