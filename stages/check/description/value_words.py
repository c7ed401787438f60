"""Types, ranges and defaults of parameters in words: `Annotated[int, Field(ge=1)]` is "whole number, at least 1"."""

from __future__ import annotations

from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo

from reprise.config.plug_ins.registry import noun
from reprise.config.texts.text_forms import TextForm

_SIMPLE = {bool: "true or false", int: "whole number", float: "number", str: "text", dict: "block"}


def allowed_values(field: FieldInfo) -> str:
    """Say which values a field takes ("whole number from 1 to 100,000", "`sgd`, `adamw` or `lars`")."""
    return _words(field.annotation, list(field.metadata))


def default_of(field: FieldInfo) -> str:
    """Write a field's default as params.yaml would ("0.2", "[1, 5]", "null"); "required" where there is none."""
    if field.is_required():
        return "required"
    return yaml_text(field.get_default(call_default_factory=True))


def yaml_text(value: Any) -> str:
    """Write a value in YAML on one line."""
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {yaml_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(yaml_text, value)) + "]"
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def _words(annotation: Any, rules: list[Any]) -> str:
    if get_origin(annotation) is Annotated:
        inner, *further = get_args(annotation)
        return _words(inner, [*rules, *_unpacked(further)])
    if get_origin(annotation) in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not NoneType]
        choices = [word for part in parts for word in _choices(part) or [_words(part, rules)]]
        return _joined([*choices, *(["null"] if NoneType in get_args(annotation) else [])])
    if choices := _choices(annotation):
        return _joined(choices)
    if get_origin(annotation) in (list, tuple):
        inner = _words(get_args(annotation)[0], [])
        return f"list of {_length(rules)}blocks" if inner == "block" else f"list of {_length(rules)}values: {inner}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "block"
    if get_origin(annotation) is dict:
        return _entries(*get_args(annotation))
    forms = [r.func for r in rules if isinstance(r, AfterValidator) and isinstance(r.func, TextForm)]
    if forms:
        form = forms[0]
        if form.kind:
            return f"name of {_with_article(noun(form.kind))}"
        return form.short or f"text: {form.words}"
    return _SIMPLE.get(get_origin(annotation) or annotation, "text") + _range(rules)


def _entries(name: Any, value: Any) -> str:
    """Say what a block holds; where it holds blocks, their fields are listed below it, and `Any` holds anything."""
    inner = _words(value, [])
    if inner == "block" or value in (Any, object):
        return "block"
    names = _words(name, [])
    return f"block of names with a value each; names: {names}; values: {inner}"


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is not Literal:
        return []
    return [f"`{choice}`" if isinstance(choice, str) else str(choice) for choice in get_args(annotation)]


def _unpacked(rules: Iterable[Any]) -> list[Any]:
    """Take the constraints out of `Field(ge=1)` and the like."""
    return [inner for rule in rules for inner in (rule.metadata if isinstance(rule, FieldInfo) else [rule])]


def _range(rules: Iterable[Any]) -> str:
    least = greatest = above = below = None
    for rule in rules:
        least = rule.ge if isinstance(rule, Ge) else least
        greatest = rule.le if isinstance(rule, Le) else greatest
        above = rule.gt if isinstance(rule, Gt) else above
        below = rule.lt if isinstance(rule, Lt) else below
    if least is not None and greatest is not None:
        return f" from {_number(least)} to {_number(greatest)}"
    bounds = {"at least": least, "above": above, "at most": greatest, "below": below}
    words = " and ".join(f"{word} {_number(bound)}" for word, bound in bounds.items() if bound is not None)
    return f" {words}" if words else ""


def _length(rules: Iterable[Any]) -> str:
    shortest = longest = None
    for rule in rules:
        shortest = rule.min_length if isinstance(rule, MinLen) else shortest
        longest = rule.max_length if isinstance(rule, MaxLen) else longest
    if shortest and longest:
        return f"{shortest} to {longest} "
    return f"at least {shortest} " if shortest else f"at most {longest} " if longest else ""


def _number(value: Any) -> str:
    """Write a bound with separators; a large whole float as a power would read (1000000.0 -> "1,000,000")."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def _with_article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _joined(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
