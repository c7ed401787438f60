"""`reprise flows ...`: run Prefect's flows, and serve them on a schedule."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import typer

from pipeline.cli.described.description import command
from pipeline.cli.exit_codes import ExitCode
from pipeline.cli.output import answer, say, say_aside
from pipeline.cli.project import AsJson, Jobs, ShareCheckpoints, WorkersAddress, enter_project
from pipeline.flows import dead_runs
from pipeline.flows.api_client import check_access
from pipeline.flows.serving import server, service
from reprise.config.params import read_yaml
from reprise.runtime.interrupts import patience

DEPLOYMENTS = Path("prefect.yaml")  # in the project
DROPPED = "Dropped"  # name of the state of a run that did not wait for another one
_RUN_FIELDS = {
    "flow": "text: name of the flow",
    "state": "text: name of the final state, such as Completed, Unchanged, Failed, Drift, Held or Dropped",
    "completed": "yes/no: whether it completed",
    "message": "text: what came of it",
}
_PATIENCE_SECONDS = 0.5  # for the last records of a run that somebody has interrupted

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Run and schedule the graph with Prefect.")
run_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Run a flow now, with or without a server.")
app.add_typer(run_app, name="run")


@command(
    run_app,
    examples=["reprise flows run reproduce", "reprise flows run reproduce pretrain/simclr --jobs 2"],
    writes="what `reprise repro` writes, the run to Prefect and to .reprise/flows, and results to "
    "the DVC remote if one is set",
    busy=True,
    fields=_RUN_FIELDS,
)
def reproduce(
    targets: Annotated[
        list[str] | None,
        typer.Argument(help="Stages to bring up to date with everything they need; all stages by default."),
    ] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Give up if another run works in this folder, instead of waiting for it.")
    ] = False,
    jobs: Jobs = None,
    workers: WorkersAddress = None,
    share_checkpoints: ShareCheckpoints = None,
    as_json: AsJson = False,
) -> None:
    """Bring the graph up to date, one task per stage."""
    elsewhere = {"workers": workers or "", "share_checkpoints": share_checkpoints}
    _run("reproduce", targets=targets, busy="drop" if drop else "wait", jobs=jobs, as_json=as_json, **elsewhere)


@command(
    run_app,
    examples=["reprise flows run refresh", "reprise flows run refresh --promote simclr"],
    writes="what `reprise repro` writes, a git tag if a run is promoted, the run to Prefect and to .reprise/flows, and "
    "results to the DVC remote if one is set",
    refused="drift or a worse backbone stopped it",
    busy=True,
    fields=_RUN_FIELDS,
)
def refresh(
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for another run in this folder, instead of giving up.")
    ] = False,
    jobs: Jobs = None,
    promote: Annotated[
        str, typer.Option(metavar="RUN", help="Give this run its next version if it is not worse than the last one.")
    ] = "",
    on_drift: Annotated[
        Literal["stop", "tell"],
        typer.Option(
            help="With --promote, where the images differ from the last version's: train nothing, or say so and train."
        ),
    ] = "stop",
    margin: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="With --promote: accepted loss, a share of the val images.")
    ] = 0.0,
    workers: WorkersAddress = None,
    share_checkpoints: ShareCheckpoints = None,
    as_json: AsJson = False,
) -> None:
    """Bring the graph up to date if the source changed.

    With --promote, new images are validated and compared with those of the last version before anything is trained,
    and then the new backbone is compared with the last version's on val.
    """
    chosen = {"promote": promote, "on_drift": on_drift, "margin": margin}
    chosen |= {"workers": workers or "", "share_checkpoints": share_checkpoints}
    _run("refresh", busy="wait" if wait else "drop", jobs=jobs, as_json=as_json, **chosen)


@command(
    run_app,
    examples=["reprise flows run sweep sweeps/temperature.yaml"],
    writes="DVC experiments on the current commit, and the run to Prefect",
    busy=True,
    fields=_RUN_FIELDS,
)
def sweep(
    plan: Annotated[
        str, typer.Argument(help="Plan of the sweep, a YAML file below this folder; `reprise sweep --help` shows one.")
    ],
    drop: Annotated[
        bool, typer.Option("--drop", help="Give up if another sweep works in this folder, instead of waiting for it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Try parameters over seeds, and compare them."""
    _run("sweep", plan=plan, busy="drop" if drop else "wait", as_json=as_json)


@command(
    app,
    examples=["reprise flows serve", "reprise flows serve --queue default"],
    writes="the state of the server to .reprise/prefect",
    busy=True,
)
def serve(
    queue: Annotated[
        list[str] | None,
        typer.Option(help="Take runs only from this work queue. May be repeated; all queues by default."),
    ] = None,
) -> None:
    """Run Prefect's server and worker until Ctrl-C.

    They serve this folder: its state is in .reprise/prefect, and the worker takes runs of the work pool `reprise`. The
    server's page asks for a password, which is the text in .reprise/prefect/password while it runs.
    """
    enter_project()
    with patience():
        service.serve(Path(), say, queue or [])


@command(
    app,
    examples=["reprise flows deploy"],
    writes="the deployments to the server",
    fields={"file": "text: the file that names the deployments", "deployments": "list of text: their names"},
)
def deploy(as_json: AsJson = False) -> None:
    """Register the deployments of prefect.yaml.

    A server must be running; deployments that are registered already are updated.
    """
    enter_project()
    if service.deploy(Path()):
        raise typer.Exit(ExitCode.FAILED)
    if as_json:
        found = read_yaml(DEPLOYMENTS).get("deployments") or []
        answer({"file": DEPLOYMENTS, "deployments": [each["name"] for each in found]})


@command(
    app,
    examples=["reprise flows close-dead-runs"],
    writes="final states to the server",
    fields={
        "server": "yes/no: whether a server runs for this folder",
        "closed": "list of text: a sentence for each run that was closed",
    },
)
def close_dead_runs(
    stuck_seconds: Annotated[
        float, typer.Option(min=0.0, help="Age in seconds from which a run that never started counts as dead.")
    ] = dead_runs.STUCK_SECONDS,
    as_json: AsJson = False,
) -> None:
    """Close runs whose process has ended.

    A killed process reports no final state, so its run would look alive and keep its place in the queue. Closed are
    runs of this folder, and those of other clones of the project whose heartbeat has stopped for ten minutes.
    """
    enter_project()
    with server.with_variables(server.client_variables(Path())):
        address = os.environ.get("PREFECT_API_URL")
        if not address:
            if as_json:
                answer({"server": False, "closed": []})
                return
            say("no Prefect server runs for this folder; the next run closes dead runs")
            return
        check_access(address)
        closed = dead_runs.close_dead_runs(address, Path(), stuck_seconds=stuck_seconds)
    if as_json:
        answer({"server": True, "closed": [str(run) for run in closed]})
        return
    for line in [str(run) for run in closed] or ["there are no dead runs"]:
        say(line)


def _run(name: str, *, as_json: bool, **parameters: Any) -> None:
    """Run a flow in this process.

    Raises:
        typer.Exit: it did not complete.
    """
    enter_project()
    with patience(), server.connect(Path()) as api:
        from pipeline.flows import delivery, entrypoints

        if api.temporary:  # leave out the link to a page that disappears with the server
            logging.getLogger("prefect.flow_runs").addFilter(lambda it: not it.getMessage().startswith("View at "))
        api.wait()
        signal.signal(signal.SIGTERM, _exit_on_signal)  # Prefect replaces this handler while the flow runs
        seconds = delivery.TIMEOUT_SECONDS
        try:
            state = getattr(entrypoints, name)(**parameters, return_state=True)
        except KeyboardInterrupt:
            seconds = _PATIENCE_SECONDS
            raise
        finally:
            delivery.send_queued_records(seconds)
        delivery.await_task_states(state)
    if as_json:
        completed = state.is_completed()
        answer({"flow": name, "state": state.name, "completed": completed, "message": state.message})
    if not state.is_completed():
        message = str(state.message)
        shown = message if message.startswith(f"{state.name}:") else f"{state.name}: {message}"
        say_aside(f"{name}: {shown}")
        raise typer.Exit(_code_of(str(state.name)))
    say(f"{name}: {state.message}")


def _code_of(state: str) -> ExitCode:
    """Return the exit status for the name of a state that is not Completed."""
    from pipeline.flows.candidate import JUDGED

    return ExitCode.REFUSED if state in JUDGED else ExitCode.BUSY if state == DROPPED else ExitCode.FAILED


def _exit_on_signal(signum: int, frame: FrameType | None) -> None:
    say_aside("received a signal to end; the next run continues from what is saved")
    raise SystemExit(128 + signum)
