"""The facts that methods read against those that the source and facts.columns give: known before any image is read."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reprise.config.errors import RepriseError
from reprise.config.facts import MOVED, Fact, refusal
from reprise.config.params import Problem
from reprise.config.tables import TRUTH, AdaptRow, RunRow
from stages.check.plug_ins import plug_in_class
from stages.check.rows import well_formed


def fact_problems(raw: dict[str, Any], classes: dict[str, type]) -> Iterator[Problem]:
    """Find runs whose method reads a fact that nothing gives, or that it may not see, and facts given twice.

    Args:
        raw: the content of params.yaml.
        classes: `runs.<name>` or `adapt.<name>` -> class of its method.
    """
    given, columns = _of_source(raw.get("source")), _of_columns(raw.get("facts"))
    if given is None or columns is None:
        return  # what is wrong with them is reported with these sections
    for fact in columns:
        if fact.name in {other.name for other in given}:
            rule = "the source gives a fact of this name, so a column cannot"
            yield Problem(f"facts.columns.{fact.name}", rule, fact.kind, " Rename the column.")
    for table, model in (("runs", RunRow), ("adapt", AdaptRow)):
        for index, row in well_formed(raw, table, model):
            reads = _read_by(raw, classes.get(f"{table}.{row['name']}"), row["name"])
            if refused := refusal(reads, [*given, *columns], row["labels"] == TRUTH):
                rule, found, fix = refused
                yield Problem(f"{table}[{index}].method", rule, f"{row['method']}; {found}", f" {fix}")
            elif any(fact.kind in MOVED for fact in [*given, *columns] if fact.name in reads):
                for name in _silent_changes(raw, classes[f"{table}.{row['name']}"], row["name"]):
                    rule = "the method reads masks, and this change does not say what becomes of them"
                    hint = " Define `carried` in its class, or `keeps_places = True` where no pixel moves."
                    yield Problem(f"methods.{row['name']}.views", rule, name, hint)


def _read_by(raw: dict[str, Any], method_class: Any, run: str) -> tuple[str, ...]:
    """The names of the facts that a run reads; of a method whose parameters are wrong those that it always reads."""
    try:
        params = method_class.Params.model_validate((raw.get("methods") or {}).get(run) or {})
        return tuple(method_class.facts_read(params))
    except (ValidationError, AttributeError, TypeError):
        return tuple(getattr(method_class, "reads", ()))


def _silent_changes(raw: dict[str, Any], method_class: Any, run: str) -> list[str]:
    """The changes of a run's views with which no mask can move; none where its parameters are wrong."""
    try:
        train: Any = importlib.import_module("reprise.training.params").TrainParams.model_validate(raw["train"])
        params = method_class.Params.model_validate((raw.get("methods") or {}).get(run) or {})
        listed = importlib.import_module("reprise.training.views").changes_named(params.applied_to(train).views)
        classes: list[tuple[str, Any]] = [(name, plug_in_class("changes", name)) for name in listed]
    except (ValidationError, RepriseError, KeyError, TypeError, AttributeError):
        return []  # reported with these sections
    return [name for name, change in classes if not change.says_what_masks_do()]


def _of_source(block: Any) -> list[Fact] | None:
    """The declarations of the source; None where the section is wrong."""
    try:
        source_class: Any = plug_in_class("sources", block["name"])
        options = source_class.Params.model_validate(block.get("options", {}))
        return list(source_class(Path(str(block.get("root", ""))), options).facts())
    except (ValidationError, RepriseError, KeyError, TypeError, AttributeError):
        return None


def _of_columns(block: Any) -> list[Fact] | None:
    """The declarations of columns of targets.csv; None where the section is wrong."""
    params: Any = importlib.import_module("stages.facts.params").FactsParams
    try:
        return list(params.model_validate(block).declared())
    except ValidationError:
        return None
