"""Run the graph under Prefect: one task per stage, with its outcome and the reason for it.

DVC alone decides what is up to date; Prefect shows it. A task ends as Cached, Restored or Ran, as Failed with the
message of its stage, or as Skipped if a stage that it depends on failed. Stages that do not depend on each other run at
once (pipeline/graph/jobs). The main thread, where signals arrive, waits for them: whatever ends the flow first ends the
processes of all stages.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Any

from prefect.blocks.notifications import NotificationBlock
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from pipeline.flows import artifacts, message
from pipeline.flows.candidate import JUDGED, Candidate, Seen, digest_of
from pipeline.flows.serving.server import report_address
from pipeline.flows.tasks import TRANSIENT, Tasks, notification_block
from pipeline.graph import dvc
from pipeline.graph.definition import Graph
from pipeline.graph.jobs.demands import expected_seconds
from pipeline.graph.jobs.loaded_dvc import loaded_dvc
from pipeline.graph.jobs.machine import this_machine
from pipeline.graph.jobs.schedule import Work, run_in_parallel
from pipeline.graph.lock_file import LOCK_FILE, read_lock
from pipeline.graph.machines.places import Elsewhere, Places, places_for
from pipeline.graph.pending.code_changes import changed_code
from pipeline.graph.pending.plan import Need, Plan, Step, output_bytes, reasons, stages_for
from pipeline.graph.pending.why import explain
from pipeline.graph.remotes import remote
from pipeline.graph.workspace import STATE, read_digest
from pipeline.processes.commands import CommandFailed
from reprise.artifacts.report_words import read_report_words
from reprise.config.dvc_file import Stage
from reprise.config.errors import RepriseError
from reprise.config.params import read_yaml
from reprise.storage.atomic import write_json

PUSHED = STATE / "flows" / "pushed.json"  # digests of the dvc.lock and the settings of DVC at the last push
UNCHANGED = "Unchanged"  # name of the state of a run that found nothing to do
_STATE_NAMES = {dvc.Outcome.RAN: "Ran", dvc.Outcome.RESTORED: "Restored", dvc.Outcome.CACHED: "Cached"}


@dataclass(frozen=True)
class Wishes:
    """What a run does besides bringing the graph up to date.

    Attributes:
        notify: Prefect's notification blocks that the message about the run is sent through.
        gate: metric that no run may lose against `champion`; empty for no gate.
        champion: git revision.
        zone: the reader's time zone; None takes that of this machine.
        candidate: the run to promote if it passes; None promotes nothing.
    """

    notify: Sequence[str] = ()
    gate: str = ""
    champion: str = "HEAD"
    zone: tzinfo | None = None
    candidate: Candidate | None = None


@dataclass
class GraphRun:
    """One run of the graph.

    Attributes:
        tasks: creates the tasks of the flow run.
        jobs: how many stages may run at once; None takes as many as the cores allow.
        remote_name: name of the default DVC remote, if something changed, there is one, and it can be read.
        wishes: what else the run is to do.
        elsewhere: other machines that compute stages. Each task waits here for its stage, in a thread: DVC writes
            dvc.lock on this machine alone, and the other machines need neither Prefect's address nor its password.
        lines: the outcome of each stage, for the lineage.
        states: the final state of each stage's task.
        failures: a line for each stage that failed, and one for those that were skipped.
        differences: lines on the metrics that changed since the last completed run.
        ruling: the lines of the gate.
    """

    tasks: Tasks
    jobs: int | None = None
    wishes: Wishes = field(default_factory=Wishes)
    elsewhere: Elsewhere | None = None
    remote_name: str | None = None
    lines: list[artifacts.StageLine] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    ruling: list[str] = field(default_factory=list)

    def reproduce(self, targets: Sequence[str], *, only_if_source_changed: bool = False) -> State:
        """Bring the graph up to date, publish the results, and tell people about it.

        Args:
            targets: see `Graph.find`; none means the whole graph.
            only_if_source_changed: whether to end at once if the last run has seen the same (`Seen`).

        Returns:
            The final state of the flow run.

        Raises:
            ParameterError: a notification block does not exist.
        """
        began = datetime.now(UTC)
        blocks = {name: notification_block(name) for name in self.wishes.notify}  # before hours of work
        try:
            final = self._bring_up_to_date(targets, only_if_source_changed)
        except (CommandFailed, RepriseError) as error:
            final = Failed(message=self.tasks.failure(error).message)
        return final if final.name == UNCHANGED else self._tell(final, began, blocks, whole=not targets)

    def _bring_up_to_date(self, targets: Sequence[str], only_if_source_changed: bool) -> State:
        began = time.perf_counter()
        prepared: dict[str, Graph] = {}
        state = self.tasks.run("prepare", lambda: self._prepare(prepared, targets))
        if not state.is_completed():
            return Failed(message=state.message)
        graph = prepared["graph"]
        seen = Seen(self.tasks.root, self.wishes.candidate)
        if only_if_source_changed and (why := seen.unchanged()):
            return Completed(name=UNCHANGED, message=why)
        changed = dvc.status(self.tasks.root, graph)
        if changed:
            self.remote_name = remote.default_remote(self.tasks.root)
        self._fetch()
        try:
            plan, stopped = self._run_what_may_run(graph, targets, changed)
        finally:
            dvc.sort_lock(graph, self.tasks.root)
        pushed = self._push()
        final = stopped or self._final_state(plan, pushed, time.perf_counter() - began)
        self._publish(completed=not plan.failures and stopped is None)
        if final.is_completed() and self.wishes.gate:
            final = self._judge(final)
        if final.is_completed():
            final = self._promote(final)
        if not targets:
            seen.record(final)
        return final

    def _run_what_may_run(
        self, graph: Graph, targets: Sequence[str], changed: Mapping[str, Any]
    ) -> tuple[Plan, State | None]:
        """Run the stages; with a candidate first those up to the shards, and the others only if the images are right.

        Returns:
            The plan of the stages that were to run, and the final state where the images stopped the run.
        """
        candidate, root = self.wishes.candidate, self.tasks.root
        if candidate is None:
            return self._run_stages(graph, targets, changed), None
        candidate.refuse_unknown(root)
        plan = self._run_stages(graph, ["shard"], changed)
        if plan.failures:
            return plan, None
        state = self.tasks.run("drift", lambda: candidate.compare_images(root, self.tasks.log()))
        self.ruling = [self.tasks.hide(line) for line in candidate.lines]
        if not state.is_completed():
            if state.name not in JUDGED:
                state = _not_compared(state, "The new images could not be compared")
            self.failures.append(f"The new images stopped the run: {state.message}")
            return plan, Failed(name=state.name, message=state.message)
        return self._run_stages(graph, targets, dvc.status(root, graph)), None

    def _promote(self, final: State) -> State:
        """Promote the candidate, if there is one, and return a failed state where it does not pass."""
        candidate = self.wishes.candidate
        if candidate is None:
            return final
        state = self.tasks.run("promote", lambda: candidate.promote(self.tasks.root, self.tasks.log()))
        self.ruling = [self.tasks.hide(line) for line in candidate.lines]
        self.tasks.markdown("promotion", candidate.page, "new images, champion and challenger")
        if state.is_completed():
            return Completed(name=final.name, message=f"{final.message}; {state.message}")
        if state.name not in JUDGED:
            state = _not_compared(state, f"{candidate.run} could not be compared and promoted")
        self.failures.append(f"{candidate.run} was not promoted: {state.message}")
        return Failed(name=state.name, message=f"{state.message} ({final.message})")

    def _prepare(self, prepared: dict[str, Graph], targets: Sequence[str]) -> State:
        graph = dvc.prepare(self.tasks.root, self.tasks.log(), on_line=self.tasks.log())
        graph.find(targets)  # an unknown target fails here, before anything runs
        prepared["graph"] = graph
        return Completed(message=f"{len(graph.stages)} stages; the parameters are valid, the source has been scanned")

    def _fetch(self) -> None:
        """Fetch results, if there is a remote to use. Where that fails, the stages are computed.

        After a failure that may pass, they look in the remote again; after another one, the remote is left alone.
        """
        if self.remote_name:
            state = self.tasks.run("pull", lambda: self._transfer(remote.pull))
            if not state.is_completed() and state.name != TRANSIENT:
                self.remote_name = None

    def _transfer(self, transfer: Callable[..., remote.Transfer]) -> State:
        return Completed(message=self.tasks.hide(transfer(self.tasks.root, self.tasks.log()).note))

    def _push(self) -> State | None:
        """Send the results if anything changed since the last push; return None if nothing was to be sent."""
        settings = [self.tasks.root / ".dvc" / name for name in ("config", "config.local")]
        digests = [digest_of(path) for path in (self.tasks.root / LOCK_FILE, *settings)]
        if read_digest(self.tasks.root / PUSHED) == digests:
            return None
        state = None
        if remote.default_remote(self.tasks.root):
            state = self.tasks.run("push", lambda: self._transfer(remote.push))
        if state is None or state.is_completed():
            write_json(self.tasks.root / PUSHED, {"digest": digests})
        return state

    def _run_stages(self, graph: Graph, targets: Sequence[str], changed: Mapping[str, Any]) -> Plan:
        """Run a task for each stage after those that it depends on, and return the plan with what became of them."""
        root = self.tasks.root
        stages = stages_for(graph, graph.find(targets))
        lock = read_lock(root)
        explanation = explain(graph, changed, lock, read_yaml(root / "params.yaml"), code=changed_code(graph, root))
        plan = Plan(graph, changed, reasons(explanation), lock, root)

        def run_as_task(stage: Stage, body: Callable[[], State]) -> State:
            above = [self.states[name] for name in graph.upstream(stage.name) if name in self.states]
            self.states[stage.name] = self.tasks.run(stage.title, body, above)
            return self.states[stage.name]

        def settle(stage: Stage) -> bool:
            step = plan.step(stage.name)
            if step.need is not Need.DVC:
                run_as_task(stage, lambda: self._settle(stage, step, lock))
            return step.need is not Need.DVC

        machine = this_machine(self.jobs)
        with (
            loaded_dvc(root) as loaded,
            places_for(
                self.elsewhere if changed else None, graph, stages, machine, loaded, root=root, say=self.tasks.say
            ) as places,
        ):

            def run(stage: Stage, variables: Mapping[str, str], cancelled: threading.Event) -> bool:
                body = partial(self._run_stage, stage, plan, places, variables, cancelled)
                return run_as_task(stage, body).is_completed()

            run_in_parallel(
                graph,
                stages,
                Work(settle, run),
                places.machine,
                demands=places.demands,
                seconds=expected_seconds(stages, graph, root),
            )
        return plan

    def _settle(self, stage: Stage, step: Step, lock: Mapping[str, Any]) -> State:
        """Return the final state of a stage that DVC need not look at."""
        if step.need is Need.IMPOSSIBLE:
            why = self.tasks.hide("; ".join(step.why))
            self._add_line(stage, "skipped", 0.0, 0, why)
            return Cancelled(name="Skipped", message=f"not run because {why}")
        size = output_bytes(lock.get(stage.name))
        self._add_line(stage, "cached", 0.0, size, "")
        return Completed(name="Cached", message=f"up to date, {artifacts.megabytes(size)}")

    def _run_stage(
        self,
        stage: Stage,
        plan: Plan,
        places: Places,
        variables: Mapping[str, str],
        cancelled: threading.Event,
    ) -> State:
        """Let DVC run a stage, and return the final state of its task."""
        root, log = self.tasks.root, self.tasks.log()
        why = self.tasks.hide("; ".join(plan.step(stage.name).why))
        began = time.perf_counter()
        try:
            outcome, host = places.run(
                stage,
                on_each_line=(log, log),
                cancelled=cancelled,
                variables=variables,
                pull=bool(self.remote_name),
            )
        except (CommandFailed, RepriseError) as error:
            plan.fail(stage.name)
            self._add_line(stage, "failed", time.perf_counter() - began, 0, why)
            return self.tasks.failure(error)
        after = read_lock(root)
        plan.finish(stage.name, after)
        seconds, size = time.perf_counter() - began, output_bytes(after.get(stage.name))
        self._add_line(stage, outcome.value, seconds, size, why)
        where = f" on {self.tasks.hide(host)}" if host else ""
        message = f"{outcome.value} in {seconds:.1f} s{where}, {artifacts.megabytes(size)}; {why}"
        return Completed(name=_STATE_NAMES[outcome], message=message)

    def _add_line(self, stage: Stage, outcome: str, seconds: float, size: int, why: str) -> None:
        self.lines = [line for line in self.lines if line.title != stage.title]  # drop the line of an earlier attempt
        self.lines.append(artifacts.StageLine(stage.title, outcome, seconds, size, why))

    def _final_state(self, plan: Plan, pushed: State | None, seconds: float) -> State:
        outcomes = [line.outcome for line in self.lines]
        counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
        if not plan.failures and pushed is not None and not pushed.is_completed():
            return Failed(message=f"{counts} in {seconds:.1f} s, but the results were not sent: {pushed.message}")
        if not plan.failures:
            return Completed(message=f"{counts} in {seconds:.1f} s")
        self.failures += [f"{plan.graph.title(name)}: {self.states[name].message}" for name in plan.failures]
        failed = Failed(message=f"{'; '.join(self.failures)} ({counts})")
        if skipped := outcomes.count("skipped"):
            self.failures.append(f"Skipped, because they depend on what failed: {skipped} stages.")
        return failed

    def _publish(self, *, completed: bool) -> None:
        """Publish the artifacts of the run; those about figures only if it completed."""
        self.tasks.markdown(
            "lineage", artifacts.lineage_markdown(self.tasks.root, self.lines), "revision, inputs, stages"
        )
        now = artifacts.read_figures(self.tasks.root) if completed else None
        if now is not None:
            before = artifacts.load_previous_figures(self.tasks.root)
            self.tasks.markdown("metrics", artifacts.metrics_markdown(now), "all runs and metrics")
            difference = artifacts.difference_markdown(before, now, self.tasks.root)
            self.tasks.markdown("difference", difference, "what changed since the previous completed run")
            self.differences = artifacts.difference_lines(before, now, self.tasks.root)
            artifacts.store_figures(now, self.tasks.root)
        address = report_address(self.tasks.root) if completed else None
        if address:
            self.tasks.link("report", address, "the report", "one HTML page")

    def _judge(self, final: State) -> State:
        """Compare the figures with the champion's, and return a failed state if the gate fails."""
        from pipeline.compare.gate import judge  # imports scipy

        judgement = judge(self.wishes.gate, champion=self.wishes.champion, root=self.tasks.root)
        self.ruling = judgement.lines()
        if judgement.passed:
            return final
        self.failures.append(f"The gate refused the results: {self.ruling[-1]}")
        return Failed(message=f"{'; '.join(self.ruling)} ({final.message})")

    def _tell(self, final: State, began: datetime, blocks: Mapping[str, NotificationBlock], *, whole: bool) -> State:
        """Publish the message about the run, send it, and return the final state with what was not sent.

        Args:
            final: the state that the run would end with.
            began: when it began.
            blocks: Prefect's notification blocks by name.
            whole: whether the run was of the whole graph; only such a run is what the next one is compared with.
        """
        root, zone, ended = self.tasks.root, self.wishes.zone, datetime.now(UTC)
        words, changes = None, ["params.yaml cannot be read, so no changes are listed."]
        with suppress(RepriseError):  # an unreadable params.yaml has failed the run, which says so
            inputs = message.read_inputs(root)
            changes = message.changes_since(message.load_previous_inputs(root), inputs, zone)
            if final.is_completed() and whole:
                message.store_inputs(inputs, ended, root)
                artifacts.store_in_history(ended, root)
        if whole and not final.is_completed():
            said = self.tasks.hide(final.message or "")
            artifacts.store_refused_in_history(ended, final.name or "Failed", said, root)
        report = self.states.get("report")
        if report is not None and report.is_completed():
            words = read_report_words(root)
        ending = message.Ending(began, ended, final.is_completed(), final.message or "", self.failures, self.ruling)
        link = report_address(root) or ""
        told = message.compose(ending, words, changes, self.differences, zone, link)
        self.tasks.markdown("message", told.markdown(), "the message about this run")
        sent = [
            self.tasks.run(f"notify {name}", partial(self.tasks.notify, block, name, told.subject, told.text()))
            for name, block in blocks.items()
        ]
        not_sent = "; ".join(str(state.message) for state in sent if not state.is_completed())
        if not_sent:
            final.message = f"{final.message}; {not_sent}"
        return final


def _not_compared(state: State, what: str) -> State:
    """Return the failed state of an error in place of a judgement."""
    return Failed(name=state.name, message=f"{what}; the next run tries again. {state.message}")
