"""`reprise views`: what the changes of a run make of the user's own pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.described.completion import runs as complete_runs
from pipeline.cli.described.description import command
from pipeline.cli.output import answer
from pipeline.cli.project import AsJson, enter_project
from pipeline.graph import stage_modules

app = typer.Typer(rich_markup_mode=None)
VIEWS_PAGE = Path(".reprise/views.html")  # in the project


@command(
    app,
    examples=["reprise views", "reprise views --run simclr --moments"],
    writes="an HTML page, .reprise/views.html of the project unless --out names another; with --moments nothing",
    fields={
        "page": "text or null: the page that was written; null with --moments",
        "moments": "list or null: with --moments a row for each change",
        "moments[].change": "text: name of the change",
        "moments[].closed": "object or null: in closed form; null where there is none",
        "moments[].closed.*": "number: mean_by and deviation in steps of 255, and draws",
        "moments[].measured": "object: measured on draws",
        "moments[].measured.*": "number: mean_by and deviation in steps of 255, and draws",
        "moments[].folds": "number or null: share of pixels at which a warp turns the picture over",
    },
)
def views(
    run: Annotated[
        str | None,
        typer.Option(
            autocompletion=complete_runs, help="Run whose views are shown; by default those of the section `train`."
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show every change that there is, not only the run's.")] = False,
    moments: Annotated[
        bool, typer.Option("--moments", help="Print mean and deviation of each change, in closed form and measured.")
    ] = False,
    out: Annotated[Path, typer.Option(help="HTML page to write.")] = VIEWS_PAGE,
    as_json: AsJson = False,
) -> None:
    """Show the random views that a run makes of your own pictures.

    A self-contained page shows each change alone, and whole views, on training images.
    """
    written = out if out == VIEWS_PAGE else out.absolute()
    enter_project()
    chosen = [] if run is None else ["--run", run]
    flags = [flag for flag, wanted in (("--all", every), ("--moments", moments)) if wanted]
    arguments = [*chosen, *flags, "--out", str(written)]
    if not as_json:
        stage_modules.show_views(arguments)
    elif moments:
        answer({"page": None, "moments": stage_modules.moments_of_views(arguments)})
    else:
        stage_modules.show_views(arguments)
        answer({"page": written, "moments": None})
