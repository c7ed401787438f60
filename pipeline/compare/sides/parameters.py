"""In what two contents of params.yaml differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reprise.config.texts.credentials import hide_credentials

ADDED, REMOVED, CHANGED = "added", "removed", "changed"


@dataclass(frozen=True)
class ParameterChange:
    """One parameter, or one part of params.yaml, in which two contents differ.

    Attributes:
        name: dotted name; a row that has a name stands under it, as in "runs.simclr.method".
        kind: "added", "removed" or "changed".
        old: the first value; None where it was added.
        new: the second value; None where it was removed.
    """

    name: str
    kind: str
    old: Any
    new: Any

    def line(self) -> str:
        """Say it in a line: "train.epochs: 60 -> 80"."""
        if self.kind == CHANGED:
            return f"{self.name}: {in_json(self.old)} -> {in_json(self.new)}"
        return f"{self.name} was {self.kind}: {in_json(self.new if self.kind == ADDED else self.old)}"


def by_name(value: Any) -> Any:
    """Put rows of tables under their names, so that a change is told by the row that changed."""
    if isinstance(value, Mapping):
        return {str(key): by_name(item) for key, item in value.items()}
    if isinstance(value, list) and value and all(isinstance(row, Mapping) and "name" in row for row in value):
        return {str(row["name"]): by_name({k: v for k, v in row.items() if k != "name"}) for row in value}
    return value


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], path: str = "", hide: Callable[[str], str] = hide_credentials
) -> list[ParameterChange]:
    """List the differences of two nested mappings, in the order of the new one.

    Args:
        old: the first one, as `by_name` makes it.
        new: the second one.
        path: what stands before each name.
        hide: replaces secrets in a text: an old revision may hold some, and a page must not repeat them.
    """
    found = []
    for key in [*new, *(key for key in old if key not in new)]:
        name = f"{path}{key}"
        if key not in old:
            found.append(ParameterChange(name, ADDED, None, _hidden(new[key], hide)))
        elif key not in new:
            found.append(ParameterChange(name, REMOVED, _hidden(old[key], hide), None))
        elif isinstance(old[key], Mapping) and isinstance(new[key], Mapping):
            found += differences(old[key], new[key], f"{name}.", hide)
        elif old[key] != new[key]:
            found.append(ParameterChange(name, CHANGED, _hidden(old[key], hide), _hidden(new[key], hide)))
    return found


def _hidden(value: Any, hide: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {hide(str(key)): _hidden(item, hide) for key, item in value.items()}
    return [_hidden(item, hide) for item in value] if isinstance(value, list) else value


def in_json(value: object) -> str:
    """Write a value as JSON, and a text as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
