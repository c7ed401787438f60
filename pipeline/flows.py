"""Prefect's flows: `reproduce` runs the graph with one task a DVC stage, `refresh` does so when the source changed.

DVC alone decides what is up to date; Prefect shows it. A task ends as Cached, Restored or Ran, as Failed with
the stage's own message, or as Skipped when something that it reads could not be made. All of it happens in the
main thread, where signals arrive: what ends the flow ends the training process and its ranks first.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prefect import allow_failure, flow, get_run_logger, runtime, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, Failed

from pipeline import dvc, flow_artifacts, janitor, presence, remote
from pipeline.failure import is_transient, message_of
from pipeline.graph import Graph, Stage
from pipeline.lockfile import LOCK_FILE, read_lock
from pipeline.processes import CommandFailed
from pipeline.redaction import redactor
from pipeline.server import report_address
from pipeline.walk import Need, Walk, bytes_out, needed, reasons
from pipeline.why import explain
from pipeline.workspace import STATE, exclusive
from stages.contracts.atomic import write_json
from stages.contracts.errors import RemoteError, RepriseError, WorkspaceBusyError
from stages.contracts.params import read_yaml

Busy = Literal["wait", "drop"]
TRANSIENT = "Transient"  # name of the state of a failure that a second try may mend
SOURCE = STATE / "flows" / "source.json"  # which source the last completed run has seen
PUSHED = STATE / "flows" / "pushed.json"  # which dvc.lock, and with which settings, was sent last


@flow(name="reproduce", validate_parameters=True)
def reproduce(
    targets: list[str] | None = None, busy: Busy = "wait", retries: int = 2, retry_delay_seconds: float = 10.0
) -> State:
    """Bring the graph up to date: one task a stage.

    Args:
        targets: stages ("pretrain", "pretrain/simclr/0") to make with what they need; none: all.
        busy: what to do while another run works in this folder: wait for it, or drop this run.
        retries: further tries after a failure that may pass by itself (a download, a remote).
        retry_delay_seconds: before the first of them; it doubles each time.
    """
    return _in_workspace(busy, lambda run: run.reproduce(targets or []), retries, retry_delay_seconds)


@flow(name="refresh", validate_parameters=True)
def refresh(busy: Busy = "drop", retries: int = 2, retry_delay_seconds: float = 10.0) -> State:
    """Look at the source of images, and bring the graph up to date if it is not what the last completed run saw.

    Args:
        busy, retries, retry_delay_seconds: as for `reproduce`.
    """
    return _in_workspace(busy, lambda run: run.reproduce([], only_if_source_changed=True), retries, retry_delay_seconds)


def _in_workspace(busy: Busy, work: Callable[[GraphRun], State], retries: int, delay: float) -> State:
    """Do `work` while this flow run holds the folder."""
    root = Path.cwd()
    hide = redactor(root)
    logger = get_run_logger()

    def say(line: str) -> None:
        logger.info("%s", hide(line))

    if runtime.deployment.id:
        presence.end_with_worker()
    presence.appear(str(runtime.flow_run.id), root)
    try:
        for closed in janitor.tidy(str(PREFECT_API_URL.value()), root, but=str(runtime.flow_run.id)):
            say(str(closed))
        with exclusive(root, wait=busy == "wait", say=say):
            return work(GraphRun(root, hide, say, [delay * 2**n for n in range(retries)]))
    except WorkspaceBusyError as error:
        return Cancelled(name="Dropped", message=hide(f"{error.what}: {error.found}; this run was told not to wait"))
    except RepriseError as error:
        return Failed(message=hide(str(error)))


@dataclass
class GraphRun:
    """One run of the graph: its tasks, and what is told of them afterwards.

    Attributes:
        hide: takes secrets out of text.
        say: writes a line to the flow's log.
        delays: seconds before each further try.
    """

    root: Path
    hide: Callable[[str], str]
    say: Callable[[str], None]
    delays: Sequence[float]
    store: str | None = None  # the remote's name, when something changed and there is one
    lock: Mapping[str, Any] = field(default_factory=dict)  # dvc.lock as DVC left it last: it takes a while to read
    lines: list[flow_artifacts.StageLine] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)

    def reproduce(self, targets: Sequence[str], *, only_if_source_changed: bool = False) -> State:
        """Walk the graph and publish what came of it."""
        began = time.perf_counter()
        looked: dict[str, Any] = {}
        state = self._task("look", lambda: self._look(looked, targets), [])
        if not state.is_completed():
            return Failed(message=state.message)
        graph: Graph = looked["graph"]
        source = _digest(self.root / "source.lock.json")
        if only_if_source_changed and source == _note(self.root / SOURCE):
            return Completed(name="Unchanged", message="the source is what the last completed run saw")
        changed = dvc.status(self.root)
        if changed:
            self.store = remote.configured(self.root)
        if self.store:  # if it cannot be had, it is computed
            self._task("pull", lambda: self._transfer(remote.pull), [])
        try:
            walk = self._walk(graph, targets, changed)
        finally:
            dvc.tidy_lock(graph, self.root)
        pushed = self._push()
        ended = self._ending(walk, pushed, time.perf_counter() - began)
        self._publish(completed=not walk.failures)
        if ended.is_completed() and not targets:
            write_json(self.root / SOURCE, {"digest": source})
        return ended

    def _look(self, looked: dict[str, Any], targets: Sequence[str]) -> State:
        graph = dvc.prepare(self.root, self._log(), on_line=self._log())
        graph.find(targets)
        looked["graph"] = graph
        return Completed(message=f"{len(graph.stages)} stages; parameters are valid, the source has been looked at")

    def _transfer(self, transfer: Callable[..., remote.Transfer]) -> State:
        return Completed(message=self.hide(transfer(self.root, self._log()).note))

    def _push(self) -> State | None:
        """Send what the remote may not have; None where nothing is to be sent."""
        settings = [self.root / ".dvc" / name for name in ("config", "config.local")]
        digests = [_digest(path) for path in (self.root / LOCK_FILE, *settings)]
        if _note(self.root / PUSHED) == digests:
            return None
        state = None
        if remote.configured(self.root):
            state = self._task("push", lambda: self._transfer(remote.push), [])
        if state is None or state.is_completed():
            write_json(self.root / PUSHED, {"digest": digests})
        return state

    def _walk(self, graph: Graph, targets: Sequence[str], changed: Mapping[str, Any]) -> Walk:
        stages = needed(graph, graph.find(targets))
        self.lock = read_lock(self.root)
        told = explain(graph, changed, self.lock, read_yaml(self.root / "params.yaml"))
        walk = Walk(graph, changed, reasons(told))
        for stage in stages:
            above = [self.states[up.name] for up in stages if up.name in graph.upstream(stage.name)]
            self.states[stage.name] = self._task(stage.title, partial(self._stage, stage, walk), above)
        return walk

    def _stage(self, stage: Stage, walk: Walk) -> State:
        """The body of a stage's task: what is to be done, DVC's work, and the state that tells of it."""
        step = walk.step(stage.name)
        why = self.hide("; ".join(step.why))
        if step.need is Need.IMPOSSIBLE:
            self._tell(stage, "skipped", 0.0, 0, why)
            return Cancelled(name="Skipped", message=f"not run because {why}")
        before = self.lock
        size = bytes_out(before.get(stage.name))
        if step.need is Need.NOTHING:
            self._tell(stage, "cached", 0.0, size, "")
            return Completed(name="Cached", message=f"up to date, {flow_artifacts.megabytes(size)}")
        began = time.perf_counter()
        try:
            outcome = dvc.repro_stage(stage.name, root=self.root, on_line=self._log(), pull=bool(self.store))
        except CommandFailed as error:
            walk.failed(stage.name)
            self._tell(stage, "failed", time.perf_counter() - began, 0, why)
            return self._failure(error)
        self.lock = read_lock(self.root)
        walk.done(stage.name, before, self.lock)
        seconds, size = time.perf_counter() - began, bytes_out(self.lock.get(stage.name))
        self._tell(stage, outcome.value, seconds, size, why)
        named = {dvc.Outcome.RAN: "Ran", dvc.Outcome.RESTORED: "Restored", dvc.Outcome.CACHED: "Cached"}[outcome]
        return Completed(
            name=named, message=f"{outcome.value} in {seconds:.1f} s, {flow_artifacts.megabytes(size)}; {why}"
        )

    def _task(self, title: str, body: Callable[[], State], above: Sequence[State]) -> State:
        """Run `body` as a Prefect task of that name, after the tasks of `above`; its failures are states."""

        @task(
            name=title.split(maxsplit=1)[0],
            task_run_name=title.replace("{", "{{").replace("}", "}}"),
            cache_policy=NO_CACHE,
            retries=len(self.delays),
            retry_delay_seconds=list(self.delays),
            retry_jitter_factor=0.2,
            retry_condition_fn=lambda task, run, state: state.name == TRANSIENT,
        )
        def unit() -> State:
            try:
                return body()
            except CommandFailed as error:
                return self._failure(error)
            except RepriseError as error:
                transient = isinstance(error, RemoteError) and error.transient
                return Failed(name=TRANSIENT if transient else None, message=self.hide(str(error)))

        return unit(return_state=True, wait_for=[allow_failure(state) for state in above])

    def _failure(self, error: CommandFailed) -> State:
        message = self.hide(message_of(error))
        return Failed(name=TRANSIENT, message=message) if is_transient(error.lines) else Failed(message=message)

    def _log(self) -> Callable[[str], None]:
        """Writes lines to the present task's log, from any thread."""
        logger = get_run_logger()
        return lambda line: logger.info("%s", self.hide(line))

    def _tell(self, stage: Stage, outcome: str, seconds: float, size: int, why: str) -> None:
        self.lines = [line for line in self.lines if line.title != stage.title]  # of an earlier try
        self.lines.append(flow_artifacts.StageLine(stage.title, outcome, seconds, size, why))

    def _ending(self, walk: Walk, pushed: State | None, seconds: float) -> State:
        kinds = [line.outcome for line in self.lines]
        told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        if not walk.failures and pushed is not None and not pushed.is_completed():
            return Failed(message=f"{told} in {seconds:.1f} s, but the results were not sent: {pushed.message}")
        if not walk.failures:
            return Completed(message=f"{told} in {seconds:.1f} s")
        messages = "; ".join(f"{walk.graph.title(name)}: {self.states[name].message}" for name in walk.failures)
        return Failed(message=f"{messages} ({told})")

    def _publish(self, *, completed: bool) -> None:
        """Prefect artifacts; those about figures only of a run that completed."""
        self._markdown("lineage", flow_artifacts.lineage_markdown(self.root, self.lines), "revision, inputs, stages")
        now = flow_artifacts.figures(self.root) if completed else None
        if now is not None:
            before = flow_artifacts.remembered(self.root)
            self._markdown("metrics", flow_artifacts.metrics_markdown(now), "all runs and metrics")
            difference = flow_artifacts.difference_markdown(before, now, self.root)
            self._markdown("difference", difference, "what changed since the previous completed run")
            flow_artifacts.remember(now, self.root)
        address = report_address(self.root) if completed else None
        if address:
            create_link_artifact(link=address, link_text="the report", key="report", description="one HTML page")

    def _markdown(self, key: str, text: str, description: str) -> None:
        create_markdown_artifact(markdown=self.hide(text), key=key, description=description)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _note(path: Path) -> Any:
    """The digest that was noted in a file of .reprise, if it can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
