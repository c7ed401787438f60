"""The graph of stages: names, order, and what feeds what, read from dvc.yaml and params.yaml without starting DVC."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reprise.config.dvc_file import GRAPH_FILE, Stage, overlaps, refused, stages_of
from reprise.config.errors import GraphError, ParameterError
from reprise.config.params import PARAMS_FILE, read_yaml
from reprise.config.texts.suggest import closest


class UnknownStage(GraphError, ParameterError):
    """A command line names a stage that the graph does not have."""


@dataclass(frozen=True)
class Graph:
    """All stages of the project.

    Attributes:
        stages: the stages in graph order: each one comes after those that it depends on.
    """

    stages: tuple[Stage, ...]

    @cached_property
    def by_name(self) -> dict[str, Stage]:
        """The stages by DVC's name."""
        return {stage.name: stage for stage in self.stages}

    @cached_property
    def _upstream(self) -> dict[str, frozenset[str]]:
        return {s.name: frozenset(u.name for u in self.stages if u is not s and feeds(u, s)) for s in self.stages}

    def upstream(self, name: str) -> frozenset[str]:
        """Return the names of the stages whose outputs a stage reads."""
        return self._upstream[name]

    def downstream(self, names: Iterable[str]) -> list[str]:
        """Return the names of the other stages that depend on `names`, directly or not, in graph order."""
        start = set(names)
        reached = {name for name in start if name in self.by_name and not self.by_name[name].fingerprints}
        for stage in self.stages:
            if self._upstream[stage.name] & reached:
                reached.add(stage.name)
        return [stage.name for stage in self.stages if stage.name in reached - start]

    def needed_for(self, names: Iterable[str]) -> list[str]:
        """Return `names` and the names of all stages that they depend on, directly or not, in graph order."""
        needed = set(names)
        for stage in reversed(self.stages):
            if stage.name in needed:
                needed |= self._upstream[stage.name]
        return [stage.name for stage in self.stages if stage.name in needed]

    def title(self, name: str) -> str:
        """Return the title of a stage, or `name` itself if the graph does not hold the stage."""
        return self.by_name[name].title if name in self.by_name else name

    def find(self, targets: Sequence[str]) -> list[str]:
        """Return DVC's names of the stages that the targets select.

        Args:
            targets: "pretrain", "pretrain simclr", "pretrain/simclr/0" or "pretrain@run3-0".

        Raises:
            UnknownStage: a target selects no stage.
        """
        names: list[str] = []
        for target in targets:
            entry, *values = re.split(r"[\s/]+", target.strip())
            values = [value for value in values if value and value != "seed"]
            matches = [
                s.name
                for s in self.stages
                if s.name == target or (s.entry == entry and all(value in s.values for value in values))
            ]
            if not matches:
                similar = self._similar(entry, values)
                hint = f"Did you mean '{similar}'? " if similar else ""
                raise UnknownStage(
                    f"no stage is called '{target}'",
                    where=GRAPH_FILE,
                    found=f"stages {', '.join(self._names_of(entry))}",
                    fix=f"{hint}Name a stage and, if you like, its run and seed: `pretrain/simclr/0`; "
                    "`reprise runs` lists them.",
                )
            names += [name for name in matches if name not in names]
        return names

    def _names_of(self, entry: str) -> list[str]:
        """Return the stages of an entry as targets, if it has several; otherwise the names of all entries."""
        of_entry = ["/".join((s.entry, *s.values)) for s in self.stages if s.entry == entry]
        return of_entry if len(of_entry) > 1 else list(dict.fromkeys(s.entry for s in self.stages))

    def _similar(self, entry: str, values: Sequence[str]) -> str:
        """Return the target that a misspelt one may have meant ("pretrain/simclr"), or an empty string."""
        near = closest(entry, [stage.entry for stage in self.stages])
        candidates = [stage for stage in self.stages if stage.entry in near]
        for value in values:
            chosen = closest(value, [v for stage in candidates for v in stage.values])
            candidates = [stage for stage in candidates if chosen and chosen[0] in stage.values]
            near += chosen
        return "/".join(near) if candidates else ""


def load_graph(root: Path = Path()) -> Graph:
    """Read dvc.yaml and params.yaml.

    Args:
        root: the project folder.

    Raises:
        GraphError: dvc.yaml holds something that DVC would refuse or that this module does not support.
        ParameterError: a file is missing or is not plain YAML.
    """
    return Graph(tuple(_ordered(stages_of(read_yaml(root / GRAPH_FILE), read_yaml(root / PARAMS_FILE)))))


def feeds(producer: Stage, consumer: Stage) -> bool:
    """Return whether `consumer` reads a path that `producer` writes."""
    return any(overlaps(out, dep) for out in producer.outs for dep in consumer.deps)


def _ordered(stages: list[Stage]) -> list[Stage]:
    """Sort stages so that each comes after those that it depends on: depth first, in the order of dvc.yaml."""
    upstream = {s.name: [u for u in stages if u is not s and feeds(u, s)] for s in stages}
    ordered: dict[str, Stage] = {}
    path: list[str] = []  # from the stage where the search began to the current one

    def visit(stage: Stage) -> None:
        if stage.name in ordered:
            return
        if stage.name in path:
            cycle = " -> ".join([*path[path.index(stage.name) :], stage.name])
            raise refused("the graph has a cycle", GRAPH_FILE, cycle)
        path.append(stage.name)
        for producer in upstream[stage.name]:
            visit(producer)
        path.pop()
        ordered[stage.name] = stage

    for stage in stages:
        visit(stage)
    return list(ordered.values())
