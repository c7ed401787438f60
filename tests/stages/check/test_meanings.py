"""Every parameter says what it means where a program can read it, in a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic import BaseModel

from reprise.config.plug_ins.registry import kinds, names
from reprise.config.tables import Tables
from stages.check.parameters import known_sections
from stages.check.plug_ins import params_class

# Words that a sentence must not begin with: they make a label of it, without a subject and a verb.
LABELS = re.compile(r"(number|share|size|width|weight|list|name) of\b|(whether|how|which|what|of|see)\b", re.IGNORECASE)


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def complaints(model: type[BaseModel], where: str) -> Iterator[str]:
    """Name every field of a class, and of those that it holds, whose meaning is missing or no sentence."""
    for name, field in model.model_fields.items():
        text = field.description or ""
        if not re.fullmatch(r"[A-Z0-9`].*[^.]\.", text) or len(text.split()) < 4 or LABELS.match(text):
            yield f"{where}.{name}: {text or 'no meaning'}"
        for inner in models_in(field.annotation):
            yield from complaints(inner, f"{where}.{name}")


SECTIONS = {"": Tables, **known_sections()}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_parameter_of_a_section_has_a_meaning(section: str) -> None:
    assert list(complaints(SECTIONS[section], section)) == []


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind != "sections"])  # those have no parameters
def test_every_parameter_of_a_plug_in_has_a_meaning(kind: str) -> None:
    plug_ins = {name: params_class(kind, name) for name in names(kind)}
    assert plug_ins, kind
    assert [line for name, model in plug_ins.items() if model for line in complaints(model, f"{kind}.{name}")] == []
