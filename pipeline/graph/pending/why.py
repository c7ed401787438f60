"""Explain what would run and which dependency changed: DVC's status in words, and the stages that follow downstream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.graph.definition import Graph
from reprise.config.dvc_file import Stage, overlaps
from reprise.runtime.declared_inputs import value_at

_MISSING = object()
_MAX_VALUE_LENGTH = 60  # characters


@dataclass(frozen=True)
class Reason:
    """Why a stage would run, or be restored from the cache.

    Attributes:
        stage: DVC's name of the stage.
        title: its name for people.
        changes: the changes that cause it, in words.
    """

    stage: str
    title: str
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """The stages that would run.

    Attributes:
        now: stages with a change of their own.
        then: stages that follow if the outputs of those change.
    """

    now: tuple[Reason, ...]
    then: tuple[Reason, ...]

    def text(self) -> str:
        """Return the explanation as text for a terminal."""
        if not self.now:
            return "Nothing would run: everything is up to date."
        lines = ["Would run (or be restored from the cache):"]
        for reason in self.now:
            lines += [f"  {reason.title}", *(f"      {change}" for change in reason.changes)]
        if self.then:
            lines.append("Would follow, if the outputs of these change:")
            lines += [f"  {reason.title}: {'; '.join(reason.changes)}" for reason in self.then]
        return "\n".join(lines)


def explain(
    graph: Graph,
    status: Mapping[str, Any],
    lock: Mapping[str, Any],
    params: Mapping[str, Any],
    targets: Sequence[str] = (),
    code: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
) -> Explanation:
    """Put DVC's status into words.

    Args:
        graph: the graph.
        status: DVC's changes by stage: {stage: [{"changed deps": {...}}, "changed command", ...]}.
        lock: entries of dvc.lock, for the recorded values of parameters.
        params: content of params.yaml.
        targets: DVC's names of stages; only these and what they depend on are explained. None means all stages.
        code: stage -> path of a fingerprint -> what differs in it (`pipeline.graph.pending.code_changes`).
    """
    selected = set(graph.needed_for(targets) if targets else graph.by_name)
    now: list[Reason] = []
    follows: dict[str, list[str]] = {}
    for stage in graph.stages:
        if stage.name not in selected or stage.name not in status:
            continue
        if stage.fingerprints and stage.name in lock:
            continue  # it runs after every edit and changes no result by itself
        files = (code or {}).get(stage.name, {})
        own, from_above = _changes(stage, status[stage.name], lock.get(stage.name), params, graph, set(status), files)
        if own:
            now.append(Reason(stage.name, stage.title, tuple(own)))
        else:
            follows[stage.name] = from_above
    changed = {reason.stage for reason in now}
    downstream = [name for name in graph.downstream(changed) if name in selected]
    affected = changed | set(downstream)
    then = []
    for name in dict.fromkeys([*downstream, *follows]):
        if name in changed:
            continue
        sources = [graph.title(up) for up in graph.by_name if up in graph.upstream(name) & affected]
        then.append(
            Reason(name, graph.title(name), (f"reads {first_three(sources)}",) if sources else tuple(follows[name]))
        )
    return Explanation(tuple(now), tuple(then))


def _changes(
    stage: Stage,
    status: Sequence[Any],
    entry: Any,
    params: Mapping[str, Any],
    graph: Graph,
    changed: set[str],
    code: Mapping[str, Sequence[str]],
) -> tuple[list[str], list[str]]:
    """Return the changes of the stage itself, and those that come from a changed stage upstream."""
    if entry is None:
        return ["it has no entry in dvc.lock: it has not run here yet"], []
    own: list[str] = []
    above: list[str] = []
    for item in status:
        if item == "changed command":
            own.append("its command in dvc.yaml")
        elif item == "always changed":
            own.append("dvc.yaml says that it always runs")
        elif isinstance(item, dict):
            for path, how in item.get("changed deps", {}).items():
                if isinstance(how, dict):
                    own += _parameter_changes(how, entry.get("params", {}).get(path, {}), params)
                    continue
                if path in code:
                    own.append(f"code: {first_three(code[path])}")
                    continue
                producers = [u for u in graph.upstream(stage.name) & changed if _writes(graph.by_name[u], path)]
                (above if producers else own).append(f"{path} {_describe(how)}")
            own += [f"its output {path} {_describe(how)}" for path, how in item.get("changed outs", {}).items()]
    return own, above


def _writes(stage: Stage, path: str) -> bool:
    return any(overlaps(out, path) for out in stage.outs)


def _describe(how: object) -> str:
    """Put DVC's word for a change into ours; an unknown one is passed on."""
    return {"modified": "changed", "deleted": "is missing", "new": "is new", "not in cache": "is not in the cache"}.get(
        str(how), str(how)
    )


def _parameter_changes(how: Mapping[str, Any], recorded: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    lines = []
    for key in how:
        old, new = recorded.get(key, _MISSING), value_at(params, key, _MISSING)
        lines += _difference(key, old, new) or [f"parameter {key} changed"]
    return lines


def _difference(key: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = dict.fromkeys([*old, *new])
        return [line for k in keys for line in _difference(f"{key}.{k}", old.get(k, _MISSING), new.get(k, _MISSING))]
    if isinstance(old, list) and isinstance(new, list):
        removed = [row for row in old if row not in new]
        added = [row for row in new if row not in old]
        parts = [f"removed {_short(row)}" for row in removed] + [f"added {_short(row)}" for row in added]
        return [f"{key}: {', '.join(parts) or 'reordered'}"] if old != new else []
    return [] if old is new or old == new else [f"{key}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    if value is _MISSING:
        return "(absent)"
    if isinstance(value, Mapping) and "name" in value:
        return str(value["name"])
    text = "null" if value is None else str(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}..."


def first_three(names: Sequence[str]) -> str:
    """List up to three names, and count the others."""
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:3])} and {len(names) - 3} more"
