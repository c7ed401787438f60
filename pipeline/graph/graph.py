"""The graph as dvc.yaml and params.yaml state it, without starting DVC: names, commands, inputs, outputs, order.

It reads the part of DVC's language that dvc.yaml uses: `${...}` lookups into params.yaml and `matrix` over
lists. A test compares what it finds with DVC's own reading, so that the two cannot drift apart.
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
_UNREAD = ("foreach", "do", "vars", "wdir", "frozen", "always_changed")


@dataclass(frozen=True)
class Stage:
    """One stage after expansion.

    Attributes:
        name: what DVC calls it ("pretrain@run3-0").
        group: the entry of dvc.yaml it comes from ("pretrain").
        title: what a person calls it ("pretrain simclr seed 0").
        words: the values that tell it apart inside its group ("simclr", "0").
        params: keys of params.yaml it depends on ("methods.simclr").
        fingerprints: it writes the fingerprints of the code (`meta: {fingerprints: true}`). It runs after every edit;
            what follows is known beforehand: the stages whose fingerprint differs (`pipeline.graph.code`).
    """

    name: str
    group: str
    title: str
    words: tuple[str, ...]
    desc: str
    cmd: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]
    fingerprints: bool = False


@dataclass(frozen=True)
class Graph:
    """All stages, in an order in which each stands after what it needs."""

    stages: tuple[Stage, ...]

    @cached_property
    def by_name(self) -> dict[str, Stage]:
        """Stages by DVC's name."""
        return {stage.name: stage for stage in self.stages}

    @cached_property
    def _upstream(self) -> dict[str, frozenset[str]]:
        return {s.name: frozenset(u.name for u in self.stages if u is not s and feeds(u, s)) for s in self.stages}

    def upstream(self, name: str) -> frozenset[str]:
        """Names of the stages whose outputs `name` reads."""
        return self._upstream[name]

    def downstream(self, names: Iterable[str]) -> list[str]:
        """Names of everything that follows from `names`, directly or not, in graph order, without `names`."""
        start = set(names)
        reached = {name for name in start if name in self.by_name and not self.by_name[name].fingerprints}
        for stage in self.stages:
            if self._upstream[stage.name] & reached:
                reached.add(stage.name)
        return [stage.name for stage in self.stages if stage.name in reached - start]

    def needed_for(self, names: Iterable[str]) -> list[str]:
        """`names` and everything they need, directly or not, in graph order."""
        wanted = set(names)
        for stage in reversed(self.stages):
            if stage.name in wanted:
                wanted |= self._upstream[stage.name]
        return [stage.name for stage in self.stages if stage.name in wanted]

    def title(self, name: str) -> str:
        """The human name of a stage, or `name` itself when the graph does not hold it."""
        return self.by_name[name].title if name in self.by_name else name

    def find(self, targets: Sequence[str]) -> list[str]:
        """DVC names of what people ask for: "pretrain", "pretrain simclr", "pretrain/simclr/0", "pretrain@run3-0".

        Raises:
            GraphError: a target that fits no stage.
        """
        found: list[str] = []
        for target in targets:
            group, *words = re.split(r"[\s/]+", target.strip())
            words = [word for word in words if word and word != "seed"]
            hits = [
                s.name
                for s in self.stages
                if s.name == target or (s.group == group and all(word in s.words for word in words))
            ]
            if not hits:
                groups = ", ".join(dict.fromkeys(s.group for s in self.stages))
                similar = self._similar(group, words)
                hint = f"Did you mean '{similar}'? " if similar else ""
                raise GraphError(
                    f"no stage is called '{target}'",
                    where=GRAPH_FILE,
                    found=f"stages {groups}",
                    fix=f"{hint}Name a stage and, if you like, its run and seed: `pretrain simclr 0`; "
                    "`reprise runs` lists them.",
                )
            found += [name for name in hits if name not in found]
        return found

    def _similar(self, group: str, words: Sequence[str]) -> str:
        """Return the target that a misspelt one may have meant ("pretrain simclr"), or an empty string."""
        near = closest(group, [stage.group for stage in self.stages])
        candidates = [stage for stage in self.stages if stage.group in near]
        for word in words:
            chosen = closest(word, [w for stage in candidates for w in stage.words])
            candidates = [stage for stage in candidates if chosen and chosen[0] in stage.words]
            near += chosen
        return " ".join(near) if candidates else ""


def load_graph(root: Path = Path()) -> Graph:
    """Read dvc.yaml and params.yaml below `root`.

    Raises:
        GraphError: something that DVC would refuse or that this reader does not know, named with its stage.
        ParameterError: a file that is missing or not plain YAML.
    """
    definitions = read_yaml(root / GRAPH_FILE).get("stages")
    params = read_yaml(root / PARAMS_FILE)
    if not isinstance(definitions, dict) or not definitions:
        raise _refused("dvc.yaml has no stages", GRAPH_FILE, definitions)
    stages = [s for group, definition in definitions.items() for s in _expand(str(group), definition, params)]
    return Graph(tuple(_ordered(stages)))


def overlaps(a: str, b: str) -> bool:
    """Whether one path is the other or lies inside it."""
    first, second = PurePosixPath(a).parts, PurePosixPath(b).parts
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


def feeds(producer: Stage, consumer: Stage) -> bool:
    """Whether `consumer` reads something that `producer` writes."""
    return any(overlaps(out, dep) for out in producer.outs for dep in consumer.deps)


def _expand(group: str, definition: Any, params: dict[str, Any]) -> list[Stage]:
    where = f"{GRAPH_FILE}: stages.{group}"
    if not isinstance(definition, dict) or "cmd" not in definition:
        raise _refused("a stage needs a command", where, definition)
    for word in _UNREAD:
        if word in definition:
            raise _refused(f"Reprise does not read '{word}' in dvc.yaml", where, definition[word])
    if "matrix" not in definition:
        return [_stage(group, group, {}, definition, params, where)]
    axes: dict[str, list[Any]] = {}
    for axis, listed in definition["matrix"].items():
        values = _whole(listed, params, where) if isinstance(listed, str) else listed
        if not isinstance(values, list):  # an empty one is no stage, as DVC has it
            raise _refused(f"the matrix needs a list for '{axis}'", where, values)
        axes[axis] = values
    stages = []
    for chosen in itertools.product(*(list(enumerate(values)) for values in axes.values())):
        item = {axis: value for axis, (_, value) in zip(axes, chosen, strict=True)}
        suffix = "-".join(_fragment(axis, i, value) for axis, (i, value) in zip(axes, chosen, strict=True))
        stages.append(_stage(group, f"{group}@{suffix}", item, definition, {**params, "item": item}, where))
    return stages


def _stage(group: str, name: str, item: dict[str, Any], definition: Any, context: dict[str, Any], where: str) -> Stage:
    words = {
        axis: str(value.get("name", value)) if isinstance(value, dict) else str(value) for axis, value in item.items()
    }
    title = " ".join([group, *(f"seed {word}" if axis == "seed" else word for axis, word in words.items())])
    outs = [*definition.get("outs", []), *definition.get("metrics", []), *definition.get("plots", [])]
    return Stage(
        name=name,
        group=group,
        title=title,
        words=tuple(words.values()),
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
    return _LOOKUP.sub(lambda match: _scalar(_lookup(match[1], context, where), match[1], where), template)


def _whole(template: str, context: dict[str, Any], where: str) -> Any:
    match = _LOOKUP.fullmatch(template)
    if not match:
        raise _refused("a matrix axis must be one ${...}", where, template)
    return _lookup(match[1], context, where)


def _lookup(path: str, context: dict[str, Any], where: str) -> Any:
    value: Any = context
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            raise _refused(f"dvc.yaml asks for '{path}', which params.yaml does not have", where, value)
        value = value[part]
    return value


def _scalar(value: Any, path: str, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise _refused(f"'{path}' is used inside text and must be a word or a number", where, value)
    return str(value)


def _fragment(axis: str, index: int, value: Any) -> str:
    """How DVC names a matrix item: by index when it is a mapping or a list, else by value."""
    if isinstance(value, dict | list):
        return f"{axis}{index}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ordered(stages: list[Stage]) -> list[Stage]:
    """Depth first from each stage in the order of dvc.yaml, what it needs before it."""
    needs = {s.name: [u for u in stages if u is not s and feeds(u, s)] for s in stages}
    done: dict[str, Stage] = {}
    open_: list[str] = []

    def visit(stage: Stage) -> None:
        if stage.name in done:
            return
        if stage.name in open_:
            circle = " -> ".join([*open_[open_.index(stage.name) :], stage.name])
            raise _refused("the graph has a circle", GRAPH_FILE, circle)
        open_.append(stage.name)
        for needed in needs[stage.name]:
            visit(needed)
        open_.pop()
        done[stage.name] = stage

    for stage in stages:
        visit(stage)
    return list(done.values())


def _refused(what: str, where: str, found: object) -> GraphError:
    return GraphError(
        what, where=where, found=found, fix="Correct dvc.yaml or params.yaml; `reprise check` tells more."
    )
