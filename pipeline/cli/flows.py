"""`reprise flows ...`: run Prefect's flows here."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from pipeline.cli.project import at_root, say
from pipeline.flows import dead_runs, server, service

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Run and schedule the graph with Prefect.")
run_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Run a flow now, with or without a server.")
app.add_typer(run_app, name="run")

Drop = Annotated[bool, typer.Option("--drop", help="Give up if another run works in this folder, instead of waiting.")]


@run_app.command()
def reproduce(
    targets: Annotated[list[str] | None, typer.Argument(help="Stages and what they need; none: all.")] = None,
    drop: Drop = False,
) -> None:
    """Bring the graph up to date, one Prefect task a stage."""
    _run("reproduce", targets=targets, busy="drop" if drop else "wait")


@run_app.command()
def refresh(wait: Annotated[bool, typer.Option("--wait", help="Wait for another run in this folder.")] = False) -> None:
    """Look at the source, and bring the graph up to date if it changed."""
    _run("refresh", busy="wait" if wait else "drop")


@run_app.command()
def sweep(
    plan: Annotated[str, typer.Argument(help="A plan below this folder; see docs/how-to/sweeps.md.")],
    drop: Annotated[bool, typer.Option("--drop", help="Give up if another sweep works in this folder.")] = False,
) -> None:
    """Try parameters as DVC experiments, and compare them."""
    _run("sweep", plan=plan, busy="drop" if drop else "wait")


@app.command()
def serve(
    queue: Annotated[
        list[str] | None, typer.Option(help="Take runs only from this work queue; may be repeated.")
    ] = None,
) -> None:
    """Run Prefect's server, a work pool and a worker for this folder until Ctrl-C."""
    at_root()
    service.serve(Path(), say, queue or [])


@app.command()
def deploy() -> None:
    """Register the deployments of prefect.yaml with the server that runs."""
    at_root()
    raise typer.Exit(service.deploy(Path()))


@app.command(name="janitor")
def tidy(
    stuck_seconds: Annotated[float, typer.Option(min=0.0, help="Age from which a run that never started is dead.")] = (
        dead_runs.STUCK_SECONDS
    ),
) -> None:
    """Close runs of this folder that nobody works on any more."""
    at_root()
    address = os.environ.get("PREFECT_API_URL") or server.known(Path())
    if address is None:
        say("no Prefect server runs for this folder; the next run closes what a kill left")
        return
    closed = dead_runs.tidy(address, Path(), stuck_seconds=stuck_seconds)
    for line in [str(run) for run in closed] or ["nothing to close"]:
        say(line)


def _run(name: str, **parameters: Any) -> None:
    """Run a flow in this process; the exit status is 1 if it does not complete."""
    at_root()
    with server.api(Path()) as api:
        from pipeline.flows import flows, records

        if api.passing:  # it would name a page that is gone in a moment
            logging.getLogger("prefect.flow_runs").addFilter(lambda it: not it.getMessage().startswith("View at "))
        api.wait()
        signal.signal(signal.SIGTERM, _ended)  # Prefect's handler stands before it while the flow runs
        try:
            state = getattr(flows, name)(**parameters, return_state=True)
        finally:
            records.send()
        records.settle(state)
    if not state.is_completed():
        say(f"{name}: {state.name}: {state.message}", sys.stderr)
        raise typer.Exit(1)
    say(f"{name}: {state.message}")


def _ended(signum: int, frame: FrameType | None) -> None:
    say("told to end; the next run goes on from what is saved", sys.stderr)
    raise SystemExit(128 + signum)
