"""`reprise sweep`: try parameter changes as DVC experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.output import say, say_aside
from pipeline.cli.project import enter_project

app = typer.Typer(rich_markup_mode=None)


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="Plan of the sweep; see docs/how-to/sweeps.md.")],
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Number of points to run at once; the plan's value by default.")
    ] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="List the points and which of them are done, without running anything.")
    ] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Remove the plan's experiments on the current commit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what the stages write.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="Also write the final comparison to this file, as Markdown.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for another sweep in this folder, instead of giving up.")
    ] = False,
) -> None:
    """Try parameters over seeds, and compare them.

    Each point of the plan is a DVC experiment on the current commit. The folder itself does not change.
    """
    from pipeline.sweeps import runner

    plan_file, page_file = file.absolute(), output.absolute() if output else None
    enter_project()
    plan = runner.load_plan(plan_file)
    if list_only:
        for point in runner.list_points(plan):
            say(point.line())
        return
    if forget:
        for name in runner.forget(plan) or ["nothing"]:
            say(f"forgot {name}")
        return
    if parallel:
        plan = plan.model_copy(update={"parallel": parallel})
    result = runner.run_sweep(plan, say=say, on_line=say if verbose else None, wait=wait)
    page = result.markdown()
    if page_file:
        page_file.write_text(page, encoding="utf-8")
    say("")
    for line in page.splitlines():  # line by line, because `say` limits the length of what it prints
        say(line)
    if result.failed:
        say_aside(f"{len(result.failed)} of {len(result.points)} points failed")
        raise typer.Exit(1)
