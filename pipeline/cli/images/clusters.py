"""`reprise clusters` and `reprise search`: what a trained run makes of single images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.described.completion import runs as complete_runs
from pipeline.cli.described.description import command
from pipeline.cli.output import answer, print_table, say, say_aside
from pipeline.cli.project import AsJson, enter_project

app = typer.Typer(rich_markup_mode=None)
Run = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete_runs,
        help="Run to ask; by default the first that was trained without true labels and is no reference.",
    ),
]
SEARCH_PAGE = Path(".reprise/search.html")  # in the project; another page lies where the user is
SeedOfRun = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the run; by default the first.")]


@command(
    app,
    examples=["reprise clusters", "reprise clusters --run simclr --export clusters.csv"],
    writes="what --export names: a new folder with a folder for each cluster, or a CSV table",
    fields={
        "run": "text: the run that was asked",
        "seed": "integer: its seed",
        "clusters": "list or null: a row for each cluster; null with --export",
        "clusters[].cluster": "integer: its number",
        "clusters[].images": "integer: number of its images",
        "clusters[].certainty": "number: median certainty, 0 between two clusters and 1 on a centre",
        "clusters[].most_central": "text: path of its most central image",
        "clusters[].least_certain": "text: path of its least certain image",
        "export": "object or null: what was written; null without --export",
        "export.place": "text: the folder or table",
        "export.images": "integer: number of images in all clusters",
        "export.copied": "integer: images that were copied",
        "export.linked": "integer: images that were hard-linked to your files",
        "export.written": "integer: images that were written as the shards hold them",
    },
)
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
    as_json: AsJson = False,
) -> None:
    """Show the clusters of a trained embedding, or export them.

    The probe `clustering` of params.yaml finds them without labels; a project that does not list it has no clusters.
    An export copies your files; the files themselves are only read. Nothing is overwritten. Certainty is 0 between two
    clusters and 1 on a centre.
    """
    from pipeline.images.chosen_run import chosen_run, note_old_figures
    from pipeline.images.clusters import OVERVIEW, in_words, members_of, overview
    from pipeline.images.clusters import export as export_clusters

    target = export.absolute() if export else None
    enter_project()
    chosen = chosen_run(run, seed)
    members = members_of(chosen)
    note_old_figures(chosen, say_aside)
    asked = {"run": chosen.name, "seed": chosen.seed}
    if target is None:
        rows = overview(members)
        if as_json:
            answer({**asked, "clusters": [_cluster(row) for row in rows], "export": None})
        else:
            print_table(OVERVIEW, rows)
        return
    done = export_clusters(members, target, link=link)
    if as_json:
        counts = {way: done[way] for way in ("copied", "linked", "written")}
        answer({**asked, "clusters": None, "export": {"place": target, "images": len(members), **counts}})
        return
    say(f"{target}: {in_words(members, done)}, of the run {chosen.name} with seed {chosen.seed}")


@command(
    app,
    examples=["reprise search photo.jpg", "reprise search photo.jpg --run simclr --top 5"],
    writes="an HTML page with the pictures, .reprise/search.html of the project unless --page names another",
    fields={
        "[].rank": "integer: 1 for the nearest",
        "[].similarity": "number: cosine to the image",
        "[].path": "text: path of the image in the source",
        "[].key": "text: its key in the manifest",
        "[].label": "text or null: its class",
        "[].split": "text: train, val or test",
        "[].is_the_image": "yes/no: whether it is the same file",
    },
)
def search(
    image: Annotated[Path, typer.Argument(help="File of an image, from anywhere.")],
    run: Run = None,
    seed: SeedOfRun = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many images to find.")] = 20,
    page: Annotated[Path, typer.Option(help="HTML page to write; it holds the pictures.")] = SEARCH_PAGE,
    as_json: AsJson = False,
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
        answer(found)
        return
    print_table(FOUND, rows_of(found))
    say_aside(f"page: {written}")


def _cluster(row: Sequence[str]) -> dict[str, Any]:
    """Return a row of the overview with its numbers as numbers."""
    number, images, certainty, central, unsure = row
    return {
        "cluster": int(number),
        "images": int(images),
        "certainty": float(certainty),
        "most_central": central,
        "least_certain": unsure,
    }
