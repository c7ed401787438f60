"""Hold a command's JSON against the fields that it declares, with a parser that takes only strict JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

ERROR = {
    "error": "object: why there is no result",
    "error.what": "text: the mistake",
    "error.where": "text: where",
    "error.found": "text: what was there",
    "error.fix": "text: what to do",
    "error.exit_code": "integer: the exit code",
}


def strict(text: str) -> Any:
    """Parse one JSON document in ASCII: no NaN, no lone surrogate, no name twice, nothing after it."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(pairs) == len({name for name, _ in pairs}), pairs
        return dict(pairs)

    assert text.isascii()
    document = json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    json.dumps(document, ensure_ascii=False).encode("utf-8")  # no lone surrogates
    return document


def undeclared(value: Any, fields: Mapping[str, str], path: str = "") -> list[str]:
    """What of a document its fields do not declare, what has another type, and what is missing."""
    kinds = _kinds(path, fields)
    if kinds is None:
        return [f"{path} is not declared"]
    if "anything" in kinds:
        return []
    if not any(_is(value, kind) for kind in kinds):
        return [f"{path} is {value!r}, not {' or '.join(kinds)}"]
    found = []
    if isinstance(value, dict):
        before = f"{path}." if path else ""
        for name, item in value.items():
            exact = f"{before}{name}"
            found += undeclared(item, fields, exact if exact in fields else f"{before}*")
        direct = [each for each in fields if each.startswith(before) and not set(each[len(before) :]) & set(".[*")]
        found += [
            f"{each} is missing"
            for each in direct
            if each[len(before) :] not in value and "absent" not in (_kinds(each, fields) or ())
        ]
    if isinstance(value, list) and any(each.startswith(f"{path}[]") for each in fields):
        for item in value:
            found += undeclared(item, fields, f"{path}[]")
    return found


def _kinds(path: str, fields: Mapping[str, str]) -> list[str] | None:
    if path in fields:
        return fields[path].partition(":")[0].split(" or ")
    below = [each for each in fields if each.startswith((f"{path}.", f"{path}[]")) or not path]
    if path == "":
        return ["list"] if any(each.startswith("[]") for each in fields) else ["object"]
    return ["object"] if any(each.startswith(f"{path}.") for each in below) else None


def _is(value: Any, kind: str) -> bool:
    match kind:
        case "text":
            return isinstance(value, str)
        case "number":
            return (isinstance(value, int | float) and not isinstance(value, bool)) or value in (
                "NaN",
                "Infinity",
                "-Infinity",
            )
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "yes/no":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "absent":
            return False
        case "object":
            return isinstance(value, dict)
        case "list":
            return isinstance(value, list)
        case "list of text":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
    raise AssertionError(f"no kind of field: {kind}")
