"""Decide stage by stage what a run must do: leave the stage alone, let DVC decide, or skip it.

DVC is asked once what changed. A stage that DVC calls unchanged stays so until one of its inputs is written again with
another hash than dvc.lock records of it; so a cached stage starts no process. All other stages are left to DVC.
This module does not import Prefect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from pipeline.graph.definition import Graph
from pipeline.graph.pending.why import Explanation, first_three
from reprise.config.dvc_file import Stage, overlaps
from reprise.runtime.earlier_outputs import md5s_of_outputs


class Need(Enum):
    """What a stage needs."""

    NOTHING = "it is up to date"
    DVC = "DVC decides whether it runs, is restored from the run cache, or is up to date after all"
    IMPOSSIBLE = "a stage that it depends on failed"


@dataclass(frozen=True)
class Step:
    """What to do about one stage.

    Attributes:
        need: what the stage needs.
        why: the reasons, in words.
    """

    need: Need
    why: tuple[str, ...] = ()


@dataclass
class Plan:
    """The plan of one run, which is updated while the stages end.

    Attributes:
        graph: the graph.
        changed: DVC's changes by stage; stages that it does not name are up to date.
        reasons: stage -> its changes in words (`pipeline.graph.pending.why`).
        lock: entries of dvc.lock.
        root: the project folder.
    """

    graph: Graph
    changed: Mapping[str, Any]
    reasons: Mapping[str, tuple[str, ...]]
    lock: Mapping[str, Any] = field(default_factory=dict)
    root: Path = Path()
    _rewritten: dict[str, dict[str, str]] = field(default_factory=dict)  # stage -> its outputs' new hashes
    _failed: dict[str, str] = field(default_factory=dict)  # stage -> the first stage that failed above it, or itself

    def step(self, name: str) -> Step:
        """Return what to do about a stage. Call this after `finish` or `fail` of the stages that it depends on."""
        upstream = self.graph.upstream(name)
        causes = {self._failed[up] for up in upstream if up in self._failed}
        if causes:
            first = next(s.name for s in self.graph.stages if s.name in causes)
            self._failed[name] = first
            return Step(Need.IMPOSSIBLE, (f"{self.graph.title(first)} failed",))
        rewritten = [s.title for s in self.graph.stages if s.name in upstream and self._changes_input(s, name)]
        new_inputs = (f"reads {first_three(rewritten)}, which changed",) if rewritten else ()
        if name in self.changed:
            return Step(Need.DVC, (*self.reasons.get(name, ()), *new_inputs))
        return Step(Need.DVC, new_inputs) if new_inputs else Step(Need.NOTHING)

    def finish(self, name: str, lock: Mapping[str, Any]) -> None:
        """Record that DVC has finished a stage, perhaps at a second attempt.

        Args:
            name: the stage.
            lock: entries of dvc.lock after it.
        """
        self._failed.pop(name, None)
        if output_hashes(self.lock.get(name)) != output_hashes(lock.get(name)):
            self._rewritten[name] = output_hashes(lock.get(name))

    def _changes_input(self, producer: Stage, name: str) -> bool:
        """Return whether a stage has written something else than what `name` read when it last ran."""
        read = {dep["path"]: dep.get("md5") for dep in self.lock.get(name, {}).get("deps", [])}
        for dep in self.graph.by_name[name].deps:
            for out, md5 in self._rewritten.get(producer.name, {}).items():
                if overlaps(out, dep) and not self._is_as_read(dep, read.get(dep), out, md5):
                    return True
        return False

    def _is_as_read(self, dep: str, read: str | None, out: str, md5: str) -> bool:
        if read is None or dep == out:
            return read == md5
        return dep.startswith(f"{out}/") and md5s_of_outputs([path := str(self.root / dep)])[path] == read

    def fail(self, name: str) -> None:
        """Record that a stage failed."""
        self._failed[name] = name

    @property
    def failures(self) -> tuple[str, ...]:
        """The stages that failed themselves, in graph order."""
        return tuple(s.name for s in self.graph.stages if self._failed.get(s.name) == s.name)


def reasons(explanation: Explanation) -> dict[str, tuple[str, ...]]:
    """Return the changes of each stage in words."""
    return {reason.stage: reason.changes for reason in (*explanation.now, *explanation.then)}


def output_hashes(entry: Any) -> dict[str, str]:
    """Return the hash of each output that an entry of dvc.lock records."""
    return {out["path"]: out["md5"] for out in (entry or {}).get("outs", [])}


def output_bytes(entry: Any) -> int:
    """Return the size of the outputs that an entry of dvc.lock records."""
    return sum(int(out.get("size") or 0) for out in (entry or {}).get("outs", []))


def stages_for(graph: Graph, names: Sequence[str]) -> list[Stage]:
    """Return the named stages and those that they depend on, in graph order; without names, all stages."""
    selected = set(graph.needed_for(names)) if names else set(graph.by_name)
    return [stage for stage in graph.stages if stage.name in selected]
