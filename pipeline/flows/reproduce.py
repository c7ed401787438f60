"""One run of the graph under Prefect: a task a stage, with what became of it and why.

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
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from pipeline.flows import artifacts
from pipeline.flows.server import report_address
from pipeline.flows.tasks import Tasks
from pipeline.graph import dvc, remote
from pipeline.graph.code import changed_code
from pipeline.graph.graph import Graph, Stage
from pipeline.graph.lock_file import LOCK_FILE, read_lock
from pipeline.graph.plan import Need, Walk, bytes_out, needed, reasons
from pipeline.graph.why import explain
from pipeline.graph.workspace import STATE
from pipeline.processes.processes import CommandFailed
from reprise.config.params import read_yaml
from reprise.storage.atomic import write_json

SOURCE = STATE / "flows" / "source.json"  # which source the last completed run has seen
PUSHED = STATE / "flows" / "pushed.json"  # which dvc.lock, and with which settings, was sent last


@dataclass
class GraphRun:
    """One run of the graph: its tasks, and what is told of them afterwards."""

    tasks: Tasks
    store: str | None = None  # the remote's name, when something changed and there is one
    lock: Mapping[str, Any] = field(default_factory=dict)  # dvc.lock as DVC left it last: it takes a while to read
    lines: list[artifacts.StageLine] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)

    def reproduce(self, targets: Sequence[str], *, only_if_source_changed: bool = False) -> State:
        """Walk the graph and publish what came of it."""
        began = time.perf_counter()
        looked: dict[str, Any] = {}
        state = self.tasks.run("look", lambda: self._look(looked, targets))
        if not state.is_completed():
            return Failed(message=state.message)
        graph: Graph = looked["graph"]
        source = _digest(self.tasks.root / "source.lock.json")
        if only_if_source_changed and source == _note(self.tasks.root / SOURCE):
            return Completed(name="Unchanged", message="the source is what the last completed run saw")
        changed = dvc.status(self.tasks.root, graph)
        if changed:
            self.store = remote.configured(self.tasks.root)
        if self.store:  # if it cannot be had, it is computed
            self.tasks.run("pull", lambda: self._transfer(remote.pull))
        try:
            walk = self._walk(graph, targets, changed)
        finally:
            dvc.tidy_lock(graph, self.tasks.root)
        pushed = self._push()
        ended = self._ending(walk, pushed, time.perf_counter() - began)
        self._publish(completed=not walk.failures)
        if ended.is_completed() and not targets:
            write_json(self.tasks.root / SOURCE, {"digest": source})
        return ended

    def _look(self, looked: dict[str, Any], targets: Sequence[str]) -> State:
        graph = dvc.prepare(self.tasks.root, self.tasks.log(), on_line=self.tasks.log())
        graph.find(targets)
        looked["graph"] = graph
        return Completed(message=f"{len(graph.stages)} stages; parameters are valid, the source has been looked at")

    def _transfer(self, transfer: Callable[..., remote.Transfer]) -> State:
        return Completed(message=self.tasks.hide(transfer(self.tasks.root, self.tasks.log()).note))

    def _push(self) -> State | None:
        """Send what the remote may not have; None where nothing is to be sent."""
        settings = [self.tasks.root / ".dvc" / name for name in ("config", "config.local")]
        digests = [_digest(path) for path in (self.tasks.root / LOCK_FILE, *settings)]
        if _note(self.tasks.root / PUSHED) == digests:
            return None
        state = None
        if remote.configured(self.tasks.root):
            state = self.tasks.run("push", lambda: self._transfer(remote.push))
        if state is None or state.is_completed():
            write_json(self.tasks.root / PUSHED, {"digest": digests})
        return state

    def _walk(self, graph: Graph, targets: Sequence[str], changed: Mapping[str, Any]) -> Walk:
        stages = needed(graph, graph.find(targets))
        self.lock = read_lock(self.tasks.root)
        code = changed_code(graph, self.tasks.root)
        told = explain(graph, changed, self.lock, read_yaml(self.tasks.root / "params.yaml"), code=code)
        walk = Walk(graph, changed, reasons(told))
        for stage in stages:
            above = [self.states[up.name] for up in stages if up.name in graph.upstream(stage.name)]
            self.states[stage.name] = self.tasks.run(stage.title, partial(self._stage, stage, walk), above)
        return walk

    def _stage(self, stage: Stage, walk: Walk) -> State:
        """The body of a stage's task: what is to be done, DVC's work, and the state that tells of it."""
        step = walk.step(stage.name)
        why = self.tasks.hide("; ".join(step.why))
        if step.need is Need.IMPOSSIBLE:
            self._tell(stage, "skipped", 0.0, 0, why)
            return Cancelled(name="Skipped", message=f"not run because {why}")
        before = self.lock
        size = bytes_out(before.get(stage.name))
        if step.need is Need.NOTHING:
            self._tell(stage, "cached", 0.0, size, "")
            return Completed(name="Cached", message=f"up to date, {artifacts.megabytes(size)}")
        began = time.perf_counter()
        try:
            outcome = dvc.repro_stage(stage.name, root=self.tasks.root, on_line=self.tasks.log(), pull=bool(self.store))
        except CommandFailed as error:
            walk.failed(stage.name)
            self._tell(stage, "failed", time.perf_counter() - began, 0, why)
            return self.tasks.failure(error)
        self.lock = read_lock(self.tasks.root)
        walk.done(stage.name, before, self.lock)
        seconds, size = time.perf_counter() - began, bytes_out(self.lock.get(stage.name))
        self._tell(stage, outcome.value, seconds, size, why)
        named = {dvc.Outcome.RAN: "Ran", dvc.Outcome.RESTORED: "Restored", dvc.Outcome.CACHED: "Cached"}[outcome]
        return Completed(name=named, message=f"{outcome.value} in {seconds:.1f} s, {artifacts.megabytes(size)}; {why}")

    def _tell(self, stage: Stage, outcome: str, seconds: float, size: int, why: str) -> None:
        self.lines = [line for line in self.lines if line.title != stage.title]  # of an earlier try
        self.lines.append(artifacts.StageLine(stage.title, outcome, seconds, size, why))

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
        self.tasks.markdown(
            "lineage", artifacts.lineage_markdown(self.tasks.root, self.lines), "revision, inputs, stages"
        )
        now = artifacts.figures(self.tasks.root) if completed else None
        if now is not None:
            before = artifacts.remembered(self.tasks.root)
            self.tasks.markdown("metrics", artifacts.metrics_markdown(now), "all runs and metrics")
            difference = artifacts.difference_markdown(before, now, self.tasks.root)
            self.tasks.markdown("difference", difference, "what changed since the previous completed run")
            artifacts.remember(now, self.tasks.root)
        address = report_address(self.tasks.root) if completed else None
        if address:
            self.tasks.link("report", address, "the report", "one HTML page")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _note(path: Path) -> Any:
    """The digest that was noted in a file of .reprise, if it can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
