"""`reprise sweep`, `reprise pull`, `reprise push`: experiments, and results to and from the DVC remote."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.project import at_root, say

app = typer.Typer(rich_markup_mode=None)

Wait = Annotated[bool, typer.Option("--wait", help="Wait for another one in this folder.")]


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="A plan; see docs/how-to/sweeps.md.")],
    parallel: Annotated[int | None, typer.Option(min=1, help="Points at once, instead of the plan's.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="Show the points and which are done; run nothing.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Remove the plan's experiments on this commit.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what the stages write.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write the final page, as Markdown, to this file too.")] = None,
    wait: Wait = False,
) -> None:
    """Try parameter changes x seeds as DVC experiments, and compare them."""
    from pipeline.sweeps import runner as sweeps

    plan_file, page_file = file.absolute(), output.absolute() if output else None
    at_root()
    plan = sweeps.load_plan(plan_file)
    if listing:
        for point in sweeps.experiments(plan):
            say(point.line())
        return
    if forget:
        for name in sweeps.forget(plan) or ["nothing"]:
            say(f"forgot {name}")
        return
    if parallel:
        plan = plan.model_copy(update={"parallel": parallel})
    try:
        result = sweeps.run_sweep(plan, say=say, on_line=say if verbose else None, wait=wait)
    except KeyboardInterrupt:
        say("interrupted: the same command goes on from here", sys.stderr)
        raise typer.Exit(130) from None
    page = result.markdown()
    if page_file:
        page_file.write_text(page, encoding="utf-8")
    say("")
    for line in page.splitlines():  # line by line: `say` bounds the length of what it prints
        say(line)
    if result.failed:
        say(f"{len(result.failed)} of {len(result.points)} points failed", sys.stderr)
        raise typer.Exit(1)


@app.command()
def pull(wait: Wait = False) -> None:
    """Bring results from the DVC remote into the cache and the folder, with the run-cache."""
    from pipeline.graph import remote
    from pipeline.graph.workspace import exclusive

    at_root()
    with exclusive(Path(), wait=wait, say=say):
        say(remote.pull(on_line=say, checkout=True).note)


@app.command()
def push() -> None:
    """Send results to the DVC remote, with the run-cache."""
    from pipeline.graph import remote

    at_root()
    say(remote.push(on_line=say).note)
