"""One default, one value: what the shipped params.yaml shows is what a block without that key gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from reprise.config.params import Problem, read_yaml
from stages.check import parameters, rows
from stages.check.rules import models

# Fields whose shipped value is deliberately another than the default, and why.
EXCEPTIONS = {
    "models": "a table has no rows by default; the label set of the shipped graph rests on this one",
    "probes": "a comparison of representations runs where it is listed, as a probe does; without a list there is none",
}


def checked_blocks(raw: dict[str, Any], patch: pytest.MonkeyPatch) -> list[tuple[str, type[BaseModel], dict]]:
    """Record (dotted path, typed class, block) of everything that the check of `raw` validates."""
    blocks = []

    def record(model: type[BaseModel], block: Any, where: str) -> list[Problem]:
        blocks.append((where, model, block))
        return []

    for module in (parameters, rows, models):
        patch.setattr(module, "problems_of", record)
    parameters.problems(raw)
    return blocks


def differences(model: type[BaseModel], block: dict, where: str) -> Iterator[str]:
    """Name every value of a block that is not its field's default."""
    for key, value in block.items():
        field = model.model_fields[key]
        if field.is_required() or key in EXCEPTIONS:
            continue
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from differences(type(default), value, f"{where}.{key}")
        elif value != default or type(value) is not type(default):
            yield f"{where}.{key}: {value!r} in params.yaml, {default!r} in {model.__name__}"


def test_what_params_yaml_shows_is_the_default(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = checked_blocks(read_yaml(repository / "params.yaml"), monkeypatch)
    paths = {where for where, _, _ in blocks}
    assert {"", "train", "methods.simclr", "model_options.dae", "probes.quality.few_shot", "source.options"} <= paths
    assert [line for where, model, block in blocks for line in differences(model, block, where)] == []


def test_a_default_that_differs_is_found(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = read_yaml(repository / "params.yaml")
    raw["methods"]["simclr"]["temperature"] = 0.5
    raw["train"]["views"]["flip"] = False
    lines = [line for where, m, block in checked_blocks(raw, monkeypatch) for line in differences(m, block, where)]
    assert lines == [
        "train.views.flip: False in params.yaml, None in ViewParams",
        "methods.simclr.temperature: 0.5 in params.yaml, 0.2 in SimCLRParams",
    ]
