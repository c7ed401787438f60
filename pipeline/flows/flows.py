"""Prefect's flows: `reproduce` runs the graph with one task a DVC stage, `refresh` does so when the source changed,
`sweep` tries parameters. What they have in common is here; what they do is in `graph_run` and `flow_sweep`."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from prefect import flow, get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun, FailedRun
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Failed
from pydantic import Field

from pipeline.flows import dead_runs, liveness
from pipeline.flows.reproduce import GraphRun
from pipeline.flows.tasks import Tasks
from pipeline.graph.workspace import exclusive
from pipeline.processes.failure import message_of
from pipeline.processes.processes import CommandFailed
from pipeline.processes.redaction import redactor
from reprise.config.errors import GraphError, ParameterError, RepriseError, WorkspaceBusyError

Busy = Literal["wait", "drop"]
Retries = Annotated[int, Field(ge=0, le=10)]
Delay = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]


@flow(name="reproduce", validate_parameters=True)
def reproduce(
    targets: list[str] | None = None, busy: Busy = "wait", retries: Retries = 2, retry_delay_seconds: Delay = 10.0
) -> State:
    """Bring the graph up to date: one task a stage.

    Args:
        targets: stages ("pretrain", "pretrain/simclr/0") to make with what they need; none: all.
        busy: what to do while another run works in this folder: wait for it, or drop this run.
        retries: further tries after a failure that may pass by itself (a download, a remote).
        retry_delay_seconds: before the first of them; it doubles each time.
    """

    def work(tasks: Tasks) -> State:
        with exclusive(tasks.root, wait=busy == "wait", say=tasks.say):
            return GraphRun(tasks).reproduce(targets or [])

    return _told(work, retries, retry_delay_seconds)


@flow(name="refresh", validate_parameters=True)
def refresh(busy: Busy = "drop", retries: Retries = 2, retry_delay_seconds: Delay = 10.0) -> State:
    """Look at the source of images, and bring the graph up to date if it is not what the last completed run saw.

    Args:
        busy, retries, retry_delay_seconds: as for `reproduce`.
    """

    def work(tasks: Tasks) -> State:
        with exclusive(tasks.root, wait=busy == "wait", say=tasks.say):
            return GraphRun(tasks).reproduce([], only_if_source_changed=True)

    return _told(work, retries, retry_delay_seconds)


@flow(name="sweep", validate_parameters=True)
def sweep(plan: str, busy: Busy = "wait") -> State:
    """Try what a plan states, each point as a DVC experiment beside the folder, and compare the points.

    Args:
        plan: a file below this folder ("sweeps/weekly.yaml"); docs/how-to/sweeps.md shows plans.
        busy: what to do while another sweep works in this folder. Runs of the graph are not in its way.
    """

    from pipeline.flows.sweep import swept  # it brings scipy: half a second that the other flows need not wait
    from pipeline.sweeps.plans import load_plan

    def work(tasks: Tasks) -> State:
        path = (tasks.root / plan).resolve()
        if not path.is_relative_to(tasks.root.resolve()):
            raise ParameterError("a plan lies in this folder", where="plan", found=plan, fix="Copy it to sweeps/.")
        return swept(load_plan(path), tasks, wait=busy == "wait")

    return _told(work, 0, 0.0)


def _told(work: Callable[[Tasks], State], retries: int, delay: float) -> State:
    """Do `work` as a run that the janitor can see, and turn expected errors into states."""
    root = Path.cwd()
    hide = redactor(root)
    logger = get_run_logger()
    this = str(runtime.flow_run.id)

    def say(line: str) -> None:
        logger.info("%s", hide(line))

    if runtime.deployment.id:
        liveness.end_with_worker()
        logging.getLogger("prefect.flow_runs").addFilter(_is_news)
    liveness.appear(this, root)
    try:
        _tidy(root, this, say)
        return work(Tasks(root, hide, say, [delay * 2**n for n in range(retries)]))
    except WorkspaceBusyError as error:
        return Cancelled(name="Dropped", message=hide(f"{error.what}: {error.found}; this run was told not to wait"))
    except RepriseError as error:
        return Failed(message=hide(str(error)))
    except CommandFailed as error:
        return Failed(message=hide(message_of(error)))
    except Exception as error:  # noqa: BLE001 — Prefect would log it with whatever secret is in its words
        logger.error("%s", hide(traceback.format_exc()))
        return Failed(message=hide(f"a defect of Reprise: {type(error).__name__}: {error}"))


def _tidy(root: Path, this: str, say: Callable[[str], None]) -> None:
    """Close what a kill left; a server that is too busy for it now is asked again by the next run."""
    try:
        for closed in dead_runs.tidy(str(PREFECT_API_URL.value()), root, but=this):
            say(str(closed))
    except GraphError as error:
        say(str(error))


def _is_news(record: logging.LogRecord) -> bool:
    """Prefect's engine raises a state that is no success, and logs where it did: the state has said all there is."""
    return not (record.exc_info and isinstance(record.exc_info[1], FailedRun | CancelledRun))
