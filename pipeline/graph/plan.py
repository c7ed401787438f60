"""Walk the graph stage by stage: which need DVC's attention, which are up to date, which cannot run.

DVC is asked once (`dvc status`) what changed. A stage that DVC calls unchanged stays so until something it
reads is written anew with other hashes, as dvc.lock records them: so a cached stage costs no process. DVC
decides about all others itself, one by one. No Prefect in here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pipeline.graph.graph import Graph, Stage
from pipeline.graph.why import Explanation


class Need(Enum):
    """What a stage needs."""

    NOTHING = "up to date"
    DVC = "DVC decides: it runs, comes back from the run-cache, or is up to date after all"
    IMPOSSIBLE = "something that it reads could not be made"


@dataclass(frozen=True)
class Step:
    """What is to be done about one stage, and why."""

    need: Need
    why: tuple[str, ...] = ()


@dataclass
class Walk:
    """The state of one walk.

    Attributes:
        changed: DVC's status, {stage: changes}; the stages it does not name are up to date.
        reasons: stage -> its changes in words (`pipeline.graph.why`).
    """

    graph: Graph
    changed: Mapping[str, Any]
    reasons: Mapping[str, tuple[str, ...]]
    _rewritten: set[str] = field(default_factory=set)
    _failed: dict[str, str] = field(default_factory=dict)  # stage -> the stage whose failure is at the root

    def step(self, name: str) -> Step:
        """What to do about a stage; ask in graph order, after telling what came of those before it."""
        above = self.graph.upstream(name)
        roots = {self._failed[up] for up in above if up in self._failed}
        if roots:
            first = next(s.name for s in self.graph.stages if s.name in roots)
            self._failed[name] = first
            return Step(Need.IMPOSSIBLE, (f"{self.graph.title(first)} failed",))
        rewritten = [stage.title for stage in self.graph.stages if stage.name in above & self._rewritten]
        news = (f"reads {_few(rewritten)}",) if rewritten else ()
        if name in self.changed:
            return Step(Need.DVC, (*self.reasons.get(name, ()), *news))
        return Step(Need.DVC, news) if news else Step(Need.NOTHING)

    def done(self, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """DVC is through with a stage, perhaps at a second try; `before` and `after`: dvc.lock's entries around it."""
        self._failed.pop(name, None)
        if written(before.get(name)) != written(after.get(name)):
            self._rewritten.add(name)

    def failed(self, name: str) -> None:
        """The stage could not be made."""
        self._failed[name] = name

    @property
    def failures(self) -> tuple[str, ...]:
        """Stages that failed themselves, in graph order."""
        return tuple(s.name for s in self.graph.stages if self._failed.get(s.name) == s.name)


def reasons(explanation: Explanation) -> dict[str, tuple[str, ...]]:
    """The changes of each stage in words."""
    return {reason.stage: reason.changes for reason in (*explanation.now, *explanation.then)}


def written(entry: Any) -> dict[str, str]:
    """Path -> hash of the outputs that dvc.lock records for a stage."""
    return {out["path"]: out["md5"] for out in (entry or {}).get("outs", [])}


def bytes_out(entry: Any) -> int:
    """Size of the outputs that dvc.lock records for a stage."""
    return sum(int(out.get("size") or 0) for out in (entry or {}).get("outs", []))


def needed(graph: Graph, names: Sequence[str]) -> list[Stage]:
    """The stages to walk: everything, or the named ones and what they need, in graph order."""
    wanted = set(graph.needed_for(names)) if names else set(graph.by_name)
    return [stage for stage in graph.stages if stage.name in wanted]


def _few(titles: Sequence[str]) -> str:
    shown = ", ".join(titles[:3])
    return f"{shown}, which changed" if len(titles) <= 3 else f"{shown} and {len(titles) - 3} more, which changed"
