"""Read dvc.yaml and params.yaml without starting DVC: the stages with their commands, inputs and outputs.

This module reads the part of DVC's language that dvc.yaml uses: `${...}` lookups into params.yaml, `matrix` over lists,
and rows of tables as options of a command. A test compares the result with DVC's own, so that the two cannot drift
apart.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from reprise.config.errors import GraphError

GRAPH_FILE = "dvc.yaml"
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
            after every edit; of the others, those follow whose fingerprint differs
            (pipeline/graph/pending/code_changes.py).
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


def stages_of(graph: dict[str, Any], params: dict[str, Any]) -> list[Stage]:
    """Expand the matrices of dvc.yaml.

    Args:
        graph: the content of dvc.yaml.
        params: the content of params.yaml.

    Returns:
        All stages, in the order of dvc.yaml.

    Raises:
        GraphError: dvc.yaml holds something that DVC would refuse or that this module does not support.
    """
    definitions = graph.get("stages")
    if not isinstance(definitions, dict) or not definitions:
        raise refused("dvc.yaml has no stages", GRAPH_FILE, definitions)
    return [s for entry, definition in definitions.items() for s in _expand(str(entry), definition, params)]


def overlaps(a: str, b: str) -> bool:
    """Return whether one path equals the other or lies inside it."""
    first, second = PurePosixPath(a).parts, PurePosixPath(b).parts
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


def _expand(entry: str, definition: Any, params: dict[str, Any]) -> list[Stage]:
    where = f"{GRAPH_FILE}: stages.{entry}"
    if not isinstance(definition, dict) or "cmd" not in definition:
        raise refused("a stage needs a command", where, definition)
    for key in _UNSUPPORTED:
        if key in definition:
            raise refused(f"Reprise does not support '{key}' in dvc.yaml", where, definition[key])
    if "matrix" not in definition:
        return [_stage(entry, entry, {}, definition, params, where)]
    axes: dict[str, list[Any]] = {}
    for axis, listed in definition["matrix"].items():
        values = _look_up_template(listed, params, where) if isinstance(listed, str) else listed
        if not isinstance(values, list):  # an empty list is allowed and gives no stage, as in DVC
            raise refused(f"the matrix needs a list for '{axis}'", where, values)
        axes[axis] = values
    stages = []
    for chosen in itertools.product(*(list(enumerate(values)) for values in axes.values())):
        item = {axis: value for axis, (_, value) in zip(axes, chosen, strict=True)}
        suffix = "-".join(_fragment(axis, i, value) for axis, (i, value) in zip(axes, chosen, strict=True))
        stages.append(_stage(entry, f"{entry}@{suffix}", item, definition, {**params, "item": item}, where))
    return stages


def _stage(entry: str, name: str, item: dict[str, Any], definition: Any, context: dict[str, Any], where: str) -> Stage:
    values: dict[str, str] = {}
    for axis, value in item.items():
        if isinstance(value, dict) and "name" not in value:  # a row without a name is told by its fields
            values |= {str(field): str(inner) for field, inner in value.items()}
        else:
            values[axis] = str(value["name"] if isinstance(value, dict) else value)
    title = " ".join([entry, *(f"seed {value}" if axis == "seed" else value for axis, value in values.items())])
    outs = [*definition.get("outs", []), *definition.get("metrics", []), *definition.get("plots", [])]
    return Stage(
        name=name,
        entry=entry,
        title=title,
        values=tuple(values.values()),
        desc=str(definition.get("desc", "")),
        cmd=_text(definition["cmd"], context, where, options=True),
        deps=tuple(_text(dep, context, where) for dep in definition.get("deps", [])),
        fingerprints=bool((definition.get("meta") or {}).get("fingerprints", False)),
        params=tuple(_text(key, context, where) for key in definition.get("params", [])),
        outs=tuple(_text(next(iter(out)) if isinstance(out, dict) else out, context, where) for out in outs),
    )


def _text(template: Any, context: dict[str, Any], where: str, options: bool = False) -> str:
    """Fill in the lookups of a text; with `options`, a mapping becomes the options of a command."""
    if not isinstance(template, str):
        raise refused("a path, key or command must be text", where, template)

    def replaced(match: re.Match[str]) -> str:
        value = _look_up(match[1], context, where)
        if options and isinstance(value, dict):
            return " ".join(_options(value, match[1], where))
        return _scalar(value, match[1], where)

    return _LOOKUP.sub(replaced, template)


def _options(row: dict[str, Any], path: str, where: str) -> Iterator[str]:
    """Write a mapping as DVC writes one in a command: `--name fog --severity 1 2`, nested keys with full stops."""
    for key, value in row.items():
        if isinstance(value, dict):
            yield from _options({f"{key}.{inner}": below for inner, below in value.items()}, path, where)
        elif isinstance(value, bool):
            if value:
                yield f"--{key}"
        elif isinstance(value, list):
            if any(isinstance(item, list | dict) for item in value):
                raise refused(f"'{path}' holds a list in a list, which cannot be an option", where, value)
            if value:
                yield f"--{key} {' '.join(shlex.quote(v) if isinstance(v, str) else str(v) for v in value)}"
        else:
            yield f"--{key} {shlex.quote(value) if isinstance(value, str) else value}"


def _look_up_template(template: str, context: dict[str, Any], where: str) -> Any:
    match = _LOOKUP.fullmatch(template)
    if not match:
        raise refused("a matrix axis must be one ${...}", where, template)
    return _look_up(match[1], context, where)


def _look_up(path: str, context: dict[str, Any], where: str) -> Any:
    value: Any = context
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            raise refused(f"dvc.yaml refers to '{path}', which params.yaml does not have", where, value)
        value = value[part]
    return value


def _scalar(value: Any, path: str, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise refused(f"'{path}' is used inside text and must be text or a number", where, value)
    return str(value)


def _fragment(axis: str, index: int, value: Any) -> str:
    """Name an item of a matrix as DVC does: by its index if it is a mapping or a list, otherwise by its value."""
    if isinstance(value, dict | list):
        return f"{axis}{index}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def refused(what: str, where: str, found: object) -> GraphError:
    """Make the error for a definition that cannot be used."""
    return GraphError(
        what, where=where, found=found, fix="Correct dvc.yaml or params.yaml; `reprise check` gives details."
    )
