"""What would run, and which dependency changed: DVC's status in words, and what follows from it downstream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.graph.graph import Graph, Stage, overlaps

_MISSING = object()
_SHOWN = 60  # characters of a value


@dataclass(frozen=True)
class Reason:
    """A stage that would run, or be restored from the cache, and the changes that make it so."""

    stage: str
    title: str
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """What would run now, and what follows if the outputs of those change."""

    now: tuple[Reason, ...]
    then: tuple[Reason, ...]

    def text(self) -> str:
        """For a terminal: one block a stage."""
        if not self.now:
            return "Nothing would run: everything is up to date."
        lines = ["Would run (or come back from the cache):"]
        for reason in self.now:
            lines += [f"  {reason.title}", *(f"      {change}" for change in reason.changes)]
        if self.then:
            lines.append("Would follow, if what those write changes:")
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
    """Put `dvc status --json` into words.

    Args:
        status: what DVC printed: {stage: [{"changed deps": {...}}, "changed command", ...]}.
        lock: entries of dvc.lock, for the values that parameters had.
        params: params.yaml as it is.
        targets: DVC names; only these and what they need are told. Empty: everything.
        code: stage -> path of a fingerprint -> what differs in it (`pipeline.graph.code`).
    """
    wanted = set(graph.needed_for(targets) if targets else graph.by_name)
    now: list[Reason] = []
    follows: dict[str, list[str]] = {}
    for stage in graph.stages:
        if stage.name not in wanted or stage.name not in status:
            continue
        if stage.fingerprints and stage.name in lock:
            continue  # it takes part in every edit, and changes no result itself
        files = (code or {}).get(stage.name, {})
        own, from_above = _changes(stage, status[stage.name], lock.get(stage.name), params, graph, set(status), files)
        if own:
            now.append(Reason(stage.name, stage.title, tuple(own)))
        else:
            follows[stage.name] = from_above
    told = {reason.stage for reason in now}
    after = [name for name in graph.downstream(told) if name in wanted]
    affected = told | set(after)
    then = []
    for name in dict.fromkeys([*after, *follows]):
        if name in told:
            continue
        sources = [graph.title(up) for up in graph.by_name if up in graph.upstream(name) & affected]
        then.append(Reason(name, graph.title(name), (f"reads {_few(sources)}",) if sources else tuple(follows[name])))
    return Explanation(tuple(now), tuple(then))


def _changes(
    stage: Stage,
    found: Sequence[Any],
    entry: Any,
    params: Mapping[str, Any],
    graph: Graph,
    changed: set[str],
    code: Mapping[str, Sequence[str]],
) -> tuple[list[str], list[str]]:
    """Changes of the stage itself, and those which a changed stage above it accounts for."""
    if entry is None:
        return ["it has no entry in dvc.lock: it has not run here yet"], []
    own: list[str] = []
    above: list[str] = []
    for item in found:
        if item == "changed command":
            own.append("its command in dvc.yaml")
        elif item == "always changed":
            own.append("DVC is told to run it always")
        elif isinstance(item, dict):
            for path, how in item.get("changed deps", {}).items():
                if isinstance(how, dict):
                    own += _parameter_changes(how, entry.get("params", {}).get(path, {}), params)
                    continue
                if path in code:
                    own.append(f"code: {_few(code[path])}")
                    continue
                makers = [u for u in graph.upstream(stage.name) & changed if _writes(graph.by_name[u], path)]
                (above if makers else own).append(f"{path} {_word(how)}")
            own += [f"its output {path} {_word(how)}" for path, how in item.get("changed outs", {}).items()]
    return own, above


def _writes(stage: Stage, path: str) -> bool:
    return any(overlaps(out, path) for out in stage.outs)


def _word(how: object) -> str:
    return {"modified": "changed", "deleted": "is missing", "new": "is new", "not in cache": "is not in the cache"}.get(
        str(how), str(how)
    )


def _parameter_changes(how: Mapping[str, Any], recorded: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    lines = []
    for key in how:
        old, new = recorded.get(key, _MISSING), _at(params, key)
        lines += _difference(key, old, new) or [f"parameter {key} changed"]
    return lines


def _at(params: Mapping[str, Any], key: str) -> Any:
    value: Any = params
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _difference(key: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = dict.fromkeys([*old, *new])
        return [line for k in keys for line in _difference(f"{key}.{k}", old.get(k, _MISSING), new.get(k, _MISSING))]
    if isinstance(old, list) and isinstance(new, list):
        gone = [row for row in old if row not in new]
        come = [row for row in new if row not in old]
        parts = [f"without {_short(row)}" for row in gone] + [f"with {_short(row)}" for row in come]
        return [f"{key}: {', '.join(parts) or 'another order'}"] if old != new else []
    return [] if old is new or old == new else [f"{key}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    if value is _MISSING:
        return "(not there)"
    if isinstance(value, Mapping) and "name" in value:
        return str(value["name"])
    text = "null" if value is None else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:3])} and {len(names) - 3} more"
