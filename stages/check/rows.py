"""The rows of a table in params.yaml and the blocks of plug-ins, and how problems with them are put into words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from reprise.config.errors import RepriseError
from reprise.config.params import Problem, StrictModel, problems_of
from reprise.config.plug_ins.registry import names, noun
from reprise.config.texts.suggest import nearest
from stages.check.plug_ins import base_class, plug_in_class


def find_plug_in(kind: str, name: Any, where: str) -> tuple[type | None, list[Problem]]:
    """Return the class of the plug-in called `name`, or what is wrong with it."""
    try:
        known = names(kind)
        if name not in known:
            return None, [Problem(where, f"unknown {noun(kind)}", name, choices(name, known))]
        return plug_in_class(kind, name, where), []
    except RepriseError as error:
        return None, [Problem(where, error.what, error.found, f" {error.fix}")]


def params_problems(plug_in: type, block: Any, where: str) -> list[Problem]:
    """Find what is wrong with the block of a plug-in, and with values that the block asks for without holding them."""
    if not isinstance(block, dict):
        return [Problem(where, "must be a block of parameters", brief(block), " Write `{}` for the defaults.")]
    model = plug_in.Params  # type: ignore[attr-defined]
    further = getattr(model, "recipe_problems", None)  # of methods: stages.pretrain.params.MethodParams
    return problems_of(model, block, where) + (further(block, where) if further else [])


def shared_problems(kind: str, block: Any, where: str) -> list[Problem]:
    """Find what is wrong with the block of a plug-in that does not exist: keys that its whole kind shares count."""
    base: Any = base_class(kind)
    shared = {k: v for k, v in block.items() if k in base.Params.model_fields} if isinstance(block, dict) else block
    return params_problems(base, shared, where)


def listed_in(raw: dict[str, Any], table: str) -> list[Any]:
    """Return the rows of a table, well formed or not."""
    value = raw.get(table)
    return value if isinstance(value, list) else []


def well_formed(raw: dict[str, Any], table: str, row_class: type[StrictModel]) -> list[tuple[int, dict[str, Any]]]:
    """Return the well-formed rows with their index; the problems of the others are reported with the tables."""
    rows = []
    for index, row in enumerate(listed_in(raw, table)):
        try:
            rows.append((index, row_class.model_validate(row).model_dump()))
        except ValidationError:
            continue
    return rows


def repeated(table: str, entries: Sequence[str]) -> list[Problem]:
    """Report names, or seeds, that a table lists more than once."""
    return [
        Problem(
            table,
            "two rows may not have the same name" if table != "seeds" else "a seed may be listed only once",
            name,
            " Rename or remove one.",
        )
        for name, times in Counter(entries).items()
        if times > 1
    ]


def choices(name: Any, known: Iterable[str]) -> str:
    """Say which name may have been meant, or which there are, as the hint of a problem."""
    known = list(known)
    return nearest(name, known) or f" Known: {', '.join(known) or 'none'}."


def brief(value: Any) -> Any:
    """Return a plain value, or the type of another."""
    return value if isinstance(value, str | int | float | bool | type(None)) else type(value).__name__
