"""Bring the graph up to date for `reprise repro`: in one DVC, or with several stages at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from pipeline.graph import dvc
from pipeline.graph.definition import Graph
from pipeline.graph.dvc_output import Outcome
from pipeline.graph.jobs.demands import expected_seconds
from pipeline.graph.jobs.loaded_dvc import loaded_dvc
from pipeline.graph.jobs.machine import this_machine
from pipeline.graph.jobs.schedule import Work, run_in_parallel
from pipeline.graph.lock_file import read_lock
from pipeline.graph.machines.places import Elsewhere, Places, places_for
from pipeline.graph.pending.plan import Need, Plan, stages_for
from pipeline.graph.workspace import Say, exclusive
from pipeline.processes.commands import CommandFailed
from pipeline.processes.failure import STAGES_FAILED, own_sentence
from pipeline.processes.redaction import make_redactor
from reprise.config.dvc_file import Stage
from reprise.config.errors import RepriseError


def repro(
    targets: Sequence[str] = (),
    *,
    root: Path = Path(),
    jobs: int | None = None,
    wait: bool = False,
    force: bool = False,
    fail_fast: bool = False,
    elsewhere: Elsewhere | None = None,
    say: Say = print,
) -> None:
    """Run the stages that are not up to date: of the whole graph, or of the targets and what they depend on.

    Args:
        targets: see `Graph.find`; none means the whole graph.
        root: the project folder.
        jobs: how many stages may run at once; None takes as many as the cores allow. With 1, one DVC runs all stages.
        wait: whether to wait for another run in this folder instead of giving up.
        force: whether to run the targets even if nothing changed.
        fail_fast: whether the first failure ends the run; otherwise all stages go on that do not depend on what failed.
        elsewhere: other machines that compute stages.
        say: prints a line for people.

    Raises:
        CommandFailed: DVC, a stage or a check ended with an error, which it has explained.
        WorkspaceBusyError: another run holds the folder and `wait` is false.
        RepriseError: with other machines, see `places_for`.
    """
    machine = this_machine(jobs)
    with exclusive(root, wait=wait, say=say):
        graph = dvc.prepare(root, say)
        names = graph.find(targets)
        if machine.jobs == 1 and elsewhere is None:
            dvc.repro_in_order(graph, names, root=root, force=force, fail_fast=fail_fast, say=say)
            return
        stages = stages_for(graph, names)
        changed = {stage.name: [] for stage in stages} if force else dvc.status(root, graph)
        if not changed.keys() & {stage.name for stage in stages}:
            say("everything is up to date")
            return
        with (
            loaded_dvc(root) as loaded,
            places_for(elsewhere, graph, stages, machine, loaded, root=root, say=say) as places,
        ):
            _Run(graph, stages, Plan(graph, changed, {}, read_lock(root), root), places, force, say).run(fail_fast)


class _Run:
    """One run, with several stages at once."""

    def __init__(
        self,
        graph: Graph,
        stages: Sequence[Stage],
        plan: Plan,
        places: Places,
        force: bool,
        say: Say,
    ) -> None:
        self._graph, self._stages, self._plan, self._where = graph, stages, plan, places
        self._root, self._force, self._say = places.root, force, say
        self._places = {stage.name: f"stage {n} of {len(stages)}, {stage.title}" for n, stage in enumerate(stages, 1)}
        self._hide, self._printing = make_redactor(places.root), threading.Lock()
        self._skipped: set[str] = set()
        self._errors: dict[str, str | None] = {}  # what each stage that failed said, by its name
        self._ended = 0

    def run(self, fail_fast: bool) -> None:
        work = Work(self._settle, self._run_stage)
        try:
            run_in_parallel(
                self._graph,
                self._stages,
                work,
                self._where.machine,
                demands=self._where.demands,
                seconds=expected_seconds(self._stages, self._graph, self._root),
                fail_fast=fail_fast,
            )
        finally:
            dvc.sort_lock(self._graph, self._root)
        if self._plan.failures:
            raise CommandFailed(STAGES_FAILED, 1, self._failures())
        if not self._ended:
            self._say("everything is up to date")

    def _settle(self, stage: Stage) -> bool:
        need = self._plan.step(stage.name).need
        if need is Need.IMPOSSIBLE:
            self._skipped.add(stage.name)
        return need is not Need.DVC

    def _run_stage(self, stage: Stage, variables: Mapping[str, str], cancelled: threading.Event) -> bool:
        if len(self._stages) > 1:
            self._print(self._places[stage.name], sys.stdout)
        try:
            outcome, host = self._where.run(
                stage,
                on_each_line=(self._writer(stage, sys.stdout), self._writer(stage, sys.stderr)),
                cancelled=cancelled,
                variables=variables,
                force=self._force,
            )
        except (CommandFailed, RepriseError) as error:
            if isinstance(error, RepriseError):
                said = f"error: {error}"
                self._writer(stage, sys.stderr)(said)
                lines: Sequence[str] = said.splitlines()
            else:
                lines = error.lines
            self._errors[stage.name] = own_sentence(lines)
            self._plan.fail(stage.name)
            return False
        self._plan.finish(stage.name, read_lock(self._root))
        self._ended += 1
        if outcome is Outcome.RESTORED:
            self._print(f"{stage.title}: {outcome.value}{f' on {host}' if host else ''}", sys.stdout)
        return True

    def _writer(self, stage: Stage, stream: TextIO) -> Callable[[str], None]:
        return lambda line: self._print(f"{stage.title} | {line}", stream)

    def _print(self, line: str, stream: TextIO) -> None:
        with self._printing:
            print(self._hide(line), file=stream, flush=True)

    def _failures(self) -> list[str]:
        """Name what failed, each with its error once more, since hundreds of lines may follow the first time.

        Both lists have the order of the graph, whichever of several stages failed first.
        """
        failed = [
            f"failed: {self._graph.title(name)}" + (f"; error: {error}" if (error := self._errors.get(name)) else "")
            for name in (stage.name for stage in self._stages)
            if name in self._plan.failures
        ]
        skipped = ", ".join(stage.title for stage in self._stages if stage.name in self._skipped)
        return failed + ([f"not run, because they depend on it: {skipped}"] if skipped else [])
