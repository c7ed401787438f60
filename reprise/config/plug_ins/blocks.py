"""Blocks of a parameter file that name a plug-in and hold its parameters: `{name: step, factor: 0.1}`."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from reprise.config.errors import ParameterError
from reprise.config.params import StrictModel, problems_of
from reprise.config.plug_ins.registry import load_class, names
from reprise.config.texts.suggest import nearest
from reprise.config.texts.text_forms import wrong_value

Place = tuple[int | str, ...]  # keys and positions that lead to a value


def typed_by_name(kind: str, base: type, block: Any, example: str) -> StrictModel:
    """Turn a block into the parameters of the plug-in that it names.

    Args:
        kind: of plug-in ("schedules").
        base: class of these plug-ins, which has `Params`.
        block: as read from a file.
        example: the name of one such plug-in, for messages.

    Raises:
        ValidationError: every problem keeps the key that it belongs to, so that `reprise check` can name it.
        PydanticCustomError: the value is no block with a name.
    """
    if not isinstance(block, dict) or not isinstance(block.get("name"), str):
        raise wrong_value("must be a block with a name", f" Write {{name: {example}}}, or another name.")
    known = names(kind)
    if block["name"] not in known:
        rule = f"must be one of {', '.join(known)}"
        raise refused([detail(("name",), rule, block["name"], nearest(block["name"], known))])
    try:
        model: type[StrictModel] = load_class(kind, block["name"], base, "name").Params  # type: ignore[attr-defined]
    except ParameterError as error:  # a user's file that cannot be imported, or that holds no such class
        raise wrong_value(f"{error.what}: {error.found}", f" {error.fix}") from error
    problems = problems_of(model, block, "")
    if problems:
        raise refused([detail((p.path,) if p.path else (), p.rule, p.found, p.hint) for p in problems])
    return model.model_validate(block)


def detail(place: Place, rule: str, found: Any, hint: str) -> InitErrorDetails:
    """Describe one problem for `refused`."""
    return InitErrorDetails(type=wrong_value(rule, hint), loc=place, input=found)


def refused(details: list[InitErrorDetails]) -> ValidationError:
    """Gather problems into one error; pydantic puts the name of the field before each place."""
    return ValidationError.from_exception_data("block", details)
