"""Read the graph from dvc.yaml and params.yaml without starting DVC: names, commands, inputs, outputs, order.

This module reads the part of DVC's language that dvc.yaml uses: `${...}` lookups into params.yaml, and `matrix` over
lists. A test compares the result with DVC's own, so that the two cannot drift apart.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from reprise.config.errors import GraphError
from reprise.config.params import read_yaml
from reprise.config.suggest import closest

GRAPH_FILE = "dvc.yaml"
PARAMS_FILE = "params.yaml"
_LOOKUP = re.compile(r"\$\{\s*([^}]*?)\s*\}")
_UNSUPPORTED = ("foreach", "do", "vars", "wdir", "frozen", "always_changed")


@dataclass(frozen=True)
class Stage:
    """One stage, after the expansion of its matrix.

    Attributes:
        name: DVC's name ("pretrain@run3-0").
        entry: the entry of dvc.yaml that it comes from ("pretrain").
        title: the name for people ("pretrain simclr seed 0").
        values: the values of the matrix that distinguish it from others of its entry ("simclr", "0").
        desc: description from dvc.yaml.
        cmd: the command.
        deps: paths that it reads.
        params: keys of params.yaml that it depends on ("methods.simclr").
        outs: paths that it writes, metrics and plots included.
        fingerprints: whether it writes the fingerprints of the code (`meta: {fingerprints: true}`). Such a stage runs
            after every edit; those that follow are the stages whose fingerprint differs (pipeline.graph.code_changes).
    """

    name: str
    entry: str
    title: str
    values: tuple[str, ...]
    desc: str
    cmd: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]
    fingerprints: bool = False


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
            GraphError: a target selects no stage.
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
                entries = ", ".join(dict.fromkeys(s.entry for s in self.stages))
                similar = self._similar(entry, values)
                hint = f"Did you mean '{similar}'? " if similar else ""
                raise GraphError(
                    f"no stage is called '{target}'",
                    where=GRAPH_FILE,
                    found=f"stages {entries}",
                    fix=f"{hint}Name a stage and, if you like, its run and seed: `pretrain simclr 0`; "
                    "`reprise runs` lists them.",
                )
            names += [name for name in matches if name not in names]
        return names

    def _similar(self, entry: str, values: Sequence[str]) -> str:
        """Return the target that a misspelt one may have meant ("pretrain simclr"), or an empty string."""
        near = closest(entry, [stage.entry for stage in self.stages])
        candidates = [stage for stage in self.stages if stage.entry in near]
        for value in values:
            chosen = closest(value, [v for stage in candidates for v in stage.values])
            candidates = [stage for stage in candidates if chosen and chosen[0] in stage.values]
            near += chosen
        return " ".join(near) if candidates else ""


def load_graph(root: Path = Path()) -> Graph:
    """Read dvc.yaml and params.yaml.

    Args:
        root: the project folder.

    Raises:
        GraphError: dvc.yaml holds something that DVC would refuse or that this module does not support.
        ParameterError: a file is missing or is not plain YAML.
    """
    definitions = read_yaml(root / GRAPH_FILE).get("stages")
    params = read_yaml(root / PARAMS_FILE)
    if not isinstance(definitions, dict) or not definitions:
        raise _refused("dvc.yaml has no stages", GRAPH_FILE, definitions)
    stages = [s for entry, definition in definitions.items() for s in _expand(str(entry), definition, params)]
    return Graph(tuple(_ordered(stages)))


def overlaps(a: str, b: str) -> bool:
    """Return whether one path equals the other or lies inside it."""
    first, second = PurePosixPath(a).parts, PurePosixPath(b).parts
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


def feeds(producer: Stage, consumer: Stage) -> bool:
    """Return whether `consumer` reads a path that `producer` writes."""
    return any(overlaps(out, dep) for out in producer.outs for dep in consumer.deps)


def _expand(entry: str, definition: Any, params: dict[str, Any]) -> list[Stage]:
    where = f"{GRAPH_FILE}: stages.{entry}"
    if not isinstance(definition, dict) or "cmd" not in definition:
        raise _refused("a stage needs a command", where, definition)
    for key in _UNSUPPORTED:
        if key in definition:
            raise _refused(f"Reprise does not support '{key}' in dvc.yaml", where, definition[key])
    if "matrix" not in definition:
        return [_stage(entry, entry, {}, definition, params, where)]
    axes: dict[str, list[Any]] = {}
    for axis, listed in definition["matrix"].items():
        values = _look_up_template(listed, params, where) if isinstance(listed, str) else listed
        if not isinstance(values, list):  # an empty list is allowed and gives no stage, as in DVC
            raise _refused(f"the matrix needs a list for '{axis}'", where, values)
        axes[axis] = values
    stages = []
    for chosen in itertools.product(*(list(enumerate(values)) for values in axes.values())):
        item = {axis: value for axis, (_, value) in zip(axes, chosen, strict=True)}
        suffix = "-".join(_fragment(axis, i, value) for axis, (i, value) in zip(axes, chosen, strict=True))
        stages.append(_stage(entry, f"{entry}@{suffix}", item, definition, {**params, "item": item}, where))
    return stages


def _stage(entry: str, name: str, item: dict[str, Any], definition: Any, context: dict[str, Any], where: str) -> Stage:
    values = {
        axis: str(value.get("name", value)) if isinstance(value, dict) else str(value) for axis, value in item.items()
    }
    title = " ".join([entry, *(f"seed {value}" if axis == "seed" else value for axis, value in values.items())])
    outs = [*definition.get("outs", []), *definition.get("metrics", []), *definition.get("plots", [])]
    return Stage(
        name=name,
        entry=entry,
        title=title,
        values=tuple(values.values()),
        desc=str(definition.get("desc", "")),
        cmd=_text(definition["cmd"], context, where),
        deps=tuple(_text(dep, context, where) for dep in definition.get("deps", [])),
        fingerprints=bool((definition.get("meta") or {}).get("fingerprints", False)),
        params=tuple(_text(key, context, where) for key in definition.get("params", [])),
        outs=tuple(_text(next(iter(out)) if isinstance(out, dict) else out, context, where) for out in outs),
    )


def _text(template: Any, context: dict[str, Any], where: str) -> str:
    if not isinstance(template, str):
        raise _refused("a path, key or command must be text", where, template)
    return _LOOKUP.sub(lambda match: _scalar(_look_up(match[1], context, where), match[1], where), template)


def _look_up_template(template: str, context: dict[str, Any], where: str) -> Any:
    match = _LOOKUP.fullmatch(template)
    if not match:
        raise _refused("a matrix axis must be one ${...}", where, template)
    return _look_up(match[1], context, where)


def _look_up(path: str, context: dict[str, Any], where: str) -> Any:
    value: Any = context
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            raise _refused(f"dvc.yaml refers to '{path}', which params.yaml does not have", where, value)
        value = value[part]
    return value


def _scalar(value: Any, path: str, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise _refused(f"'{path}' is used inside text and must be text or a number", where, value)
    return str(value)


def _fragment(axis: str, index: int, value: Any) -> str:
    """Name an item of a matrix as DVC does: by its index if it is a mapping or a list, otherwise by its value."""
    if isinstance(value, dict | list):
        return f"{axis}{index}"
    return str(value).lower() if isinstance(value, bool) else str(value)


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
            raise _refused("the graph has a cycle", GRAPH_FILE, cycle)
        path.append(stage.name)
        for producer in upstream[stage.name]:
            visit(producer)
        path.pop()
        ordered[stage.name] = stage

    for stage in stages:
        visit(stage)
    return list(ordered.values())


def _refused(what: str, where: str, found: object) -> GraphError:
    return GraphError(
        what, where=where, found=found, fix="Correct dvc.yaml or params.yaml; `reprise check` gives details."
    )
