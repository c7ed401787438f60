"""The flows that Prefect runs: prefect.yaml names them as entrypoints.

`reproduce` runs the graph with one task per DVC stage, `refresh` does so only if the source of images changed, and
`sweep` tries parameters. This file holds what they share; `pipeline.flows.reproduce` and `pipeline.flows.sweep` do the
work.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from prefect import flow, get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun, FailedRun
from prefect.states import Cancelled, Failed
from pydantic import Field

from pipeline.flows import dead_runs, liveness
from pipeline.flows.api_client import call
from pipeline.flows.candidate import Candidate, OnDrift
from pipeline.flows.plain_call import callable_flow
from pipeline.flows.reproduce import GraphRun, Wishes
from pipeline.flows.tasks import Tasks
from pipeline.graph.machines.places import elsewhere_of
from pipeline.graph.workspace import exclusive
from pipeline.processes.commands import CommandFailed
from pipeline.processes.failure import failure_message
from pipeline.processes.redaction import make_redactor
from reprise.config.errors import GraphError, ParameterError, RepriseError, WorkspaceBusyError

Busy = Literal["wait", "drop"]
Retries = Annotated[int, Field(ge=0, le=10)]
Jobs = Annotated[int, Field(ge=1)] | None
Blocks = list[str] | None
Delay = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]
Sharing = Annotated[float, Field(ge=1, allow_inf_nan=False)] | None
Margin = Annotated[float, Field(ge=0, le=1)]


@callable_flow
@flow(name="reproduce", validate_parameters=True)
def reproduce(
    targets: list[str] | None = None,
    busy: Busy = "wait",
    retries: Retries = 2,
    retry_delay_seconds: Delay = 10.0,
    jobs: Jobs = None,
    workers: str = "",
    share_checkpoints: Sharing = None,
    notify: Blocks = None,
    gate: str = "",
    champion: str = "HEAD",
) -> State:
    """Bring the graph up to date, with one task per stage, and tell people about it.

    Args:
        targets: stages ("pretrain", "pretrain/simclr/0") to bring up to date with everything they need; none means all.
        busy: what to do while another run works in this folder: wait for it, or drop this run.
        retries: how often a task is retried after a failure that may be temporary (a download, a remote).
        retry_delay_seconds: delay before the first retry; it doubles with each further one.
        jobs: how many stages may run at once; None takes as many as the cores allow.
        workers: Dask scheduler ("tcp://HOST:8786") whose workers (`reprise worker`) compute stages; empty for none.
        share_checkpoints: seconds between two checkpoints that a worker sends to the remote; None sends none.
        notify: Prefect's notification blocks ("slack-webhook/team") through which the message about the run is sent.
        gate: metric ("knn.top1_val") in which no run may lie below `champion`; the flow run fails otherwise.
        champion: git revision that the gate compares with.
    """

    def work(tasks: Tasks) -> State:
        elsewhere = elsewhere_of(workers, share_checkpoints)
        with exclusive(tasks.root, wait=busy == "wait", say=tasks.say):
            wishes = Wishes(notify or [], gate, champion, _schedule_zone(tasks.say))
            return GraphRun(tasks, jobs, wishes, elsewhere).reproduce(targets or [])

    return _run_as_flow(work, retries, retry_delay_seconds)


@callable_flow
@flow(name="refresh", validate_parameters=True)
def refresh(
    busy: Busy = "drop",
    retries: Retries = 2,
    retry_delay_seconds: Delay = 10.0,
    jobs: Jobs = None,
    workers: str = "",
    share_checkpoints: Sharing = None,
    notify: Blocks = None,
    promote: str = "",
    on_drift: OnDrift = "stop",
    margin: Margin = 0.0,
) -> State:
    """Scan the source of images, and bring the graph up to date if it changed since the last completed run.

    With `promote`, new images first pass validation and are compared with those of the last promoted version (the
    champion), and then the new backbone is compared with the champion's on val. What passes gets the next tag.

    Args:
        busy: as for `reproduce`.
        retries: as for `reproduce`.
        retry_delay_seconds: as for `reproduce`.
        jobs: as for `reproduce`.
        workers: as for `reproduce`.
        share_checkpoints: as for `reproduce`.
        notify: as for `reproduce`; nothing is sent if the source has not changed.
        promote: the run that becomes the next version if it is not worse than the champion; empty promotes nothing.
        on_drift: whether images that differ from the champion's stop the run before anything is trained, or are told.
        margin: accepted loss against the champion, a share of the val images.
    """

    def work(tasks: Tasks) -> State:
        elsewhere = elsewhere_of(workers, share_checkpoints)
        with exclusive(tasks.root, wait=busy == "wait", say=tasks.say):
            candidate = Candidate(promote, on_drift, margin) if promote else None
            wishes = Wishes(notify or [], zone=_schedule_zone(tasks.say), candidate=candidate)
            return GraphRun(tasks, jobs, wishes, elsewhere).reproduce([], only_if_source_changed=True)

    return _run_as_flow(work, retries, retry_delay_seconds)


@callable_flow
@flow(name="sweep", validate_parameters=True)
def sweep(plan: str, busy: Busy = "wait") -> State:
    """Run the points of a plan as DVC experiments in clones of this folder, and compare them.

    Args:
        plan: a file below this folder ("sweeps/weekly.yaml"); `reprise sweep --help` shows one.
        busy: what to do while another sweep works in this folder. Runs of the graph do not block a sweep.
    """

    from pipeline.flows.sweep import run_sweep_flow  # imports scipy: half a second that the other flows do not need
    from pipeline.sweeps.plans import load_plan

    def work(tasks: Tasks) -> State:
        path = (tasks.root / plan).resolve()
        if not path.is_relative_to(tasks.root.resolve()):
            raise ParameterError(
                "a plan must lie in this folder", where="plan", found=plan, fix="Copy the plan to sweeps/."
            )
        return run_sweep_flow(load_plan(path), tasks, wait=busy == "wait")

    return _run_as_flow(work, 0, 0.0)


def _run_as_flow(work: Callable[[Tasks], State], retries: int, delay: float) -> State:
    """Register this flow run, do its work, and turn expected errors into states.

    Args:
        work: the body of the flow.
        retries: further attempts of a task after a failure that may be temporary.
        delay: seconds before the first retry; it doubles with each further one.
    """
    root = Path.cwd()
    hide = make_redactor(root)
    _hide_in_logs(hide)
    logger = get_run_logger()
    run_id = str(runtime.flow_run.id)

    def say(line: str) -> None:
        logger.info("%s", hide(line))

    if runtime.deployment.id:
        liveness.end_with_worker()
        logging.getLogger("prefect.flow_runs").addFilter(_is_worth_logging)
    liveness.register_run(run_id, root)
    try:
        _close_dead_runs(root, run_id, say)
        with _beating(run_id, root):
            return work(Tasks(root, hide, say, [delay * 2**n for n in range(retries)]))
    except WorkspaceBusyError as error:
        return Cancelled(name="Dropped", message=hide(f"{error.what}: {error.found}; this run does not wait for it"))
    except RepriseError as error:
        return Failed(message=hide(str(error)))
    except CommandFailed as error:
        return Failed(message=hide(failure_message(error)))
    except Exception as error:  # noqa: BLE001 — Prefect would log the error with any secret in its text
        logger.error("%s", hide(traceback.format_exc()))
        return Failed(message=hide(f"a defect of Reprise: {type(error).__name__}: {error}"))


def _schedule_zone(say: Callable[[str], None]) -> ZoneInfo | None:
    """Return the time zone of the deployment's schedule; None without a deployment or a schedule with a zone."""
    if not runtime.deployment.id:
        return None
    try:
        deployment = call(_api_address(), "GET", f"/deployments/{runtime.deployment.id}")
        zones = [each["schedule"].get("timezone") for each in deployment["schedules"]]
        return next((ZoneInfo(zone) for zone in zones if zone), None)
    except (GraphError, KeyError, ValueError) as error:  # an unknown zone is a KeyError
        say(f"the time zone of the schedule cannot be read, so times are in that of this machine: {error}")
        return None


def _close_dead_runs(root: Path, run_id: str, say: Callable[[str], None]) -> None:
    """Close the runs that a kill left open; if the server is too busy, the next run tries again."""
    try:
        for closed in dead_runs.close_dead_runs(_api_address(), root, except_run=run_id):
            say(str(closed))
    except GraphError as error:
        say(str(error))


@contextmanager
def _beating(run_id: str, root: Path) -> Iterator[None]:
    """Give heartbeats inside the `with` block, if Prefect names the address of its API."""
    address = None
    with suppress(GraphError):
        address = _api_address()
    with liveness.heartbeat(run_id, address, root) if address else nullcontext():
        yield


def _api_address() -> str:
    """Return the URL of the API that records this run.

    PREFECT_API_URL does not name it when a flow is called as a plain function: Prefect then starts a temporary server,
    whose URL only its client knows.
    """
    address = str(get_client(sync_client=True).api_url).rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise GraphError(
            "dead runs were not looked for, because Prefect names no address of its API",
            where="Prefect's client",
            found=address,
            fix="Run the flow with `reprise flows run`, or set PREFECT_API_URL.",
        )
    return address


def _hide_in_logs(hide: Callable[[str], str]) -> None:
    """Let what Prefect itself logs about this run, such as the traceback of a crash, pass through `hide` as well."""

    def clean(record: logging.LogRecord) -> bool:
        record.msg, record.args = hide(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = hide("".join(traceback.format_exception(*record.exc_info)).rstrip())
        return True

    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logger = logging.getLogger(name)
        for earlier in [each for each in logger.filters if getattr(each, "__name__", "") == clean.__name__]:
            logger.removeFilter(earlier)  # of an earlier run in this process
        logger.addFilter(clean)


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Leave out the traceback of a failed or cancelled state: the state already carries the message."""
    return not (record.exc_info and isinstance(record.exc_info[1], FailedRun | CancelledRun))
