"""The table `models`, and the runs that start from its rows or learn from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reprise.artifacts.models import architecture_of
from reprise.config.errors import RepriseError
from reprise.config.params import Problem
from reprise.config.suggest import nearest
from reprise.config.tables import RANDOM, TIMM, ModelRow, RunRow
from reprise.training.params import TrainParams


def rows_of_models(raw: dict[str, Any]) -> list[tuple[int, ModelRow]]:
    """Return the well-formed rows of `models` with their index."""
    rows, found = raw.get("models"), []
    for index, row in enumerate(rows if isinstance(rows, list) else ()):
        try:
            found.append((index, ModelRow.model_validate(row)))
        except ValidationError:
            continue  # reported with the tables
    return found


def models_of(raw: dict[str, Any]) -> list[ModelRow]:
    """Return the well-formed rows of `models` that are weights from elsewhere."""
    return [row for _, row in rows_of_models(raw) if row.model is None]


def as_started(train: TrainParams, start: str, raw: dict[str, Any]) -> TrainParams:
    """Return the budget of a run with the network of the weights that it starts from.

    Args:
        train: with what the run replaces.
        start: `random`, or `models/<name>`.
        raw: the content of params.yaml.

    Raises:
        BackboneError: the row names a folder that cannot be read.
    """
    row = next((model for model in models_of(raw) if f"models/{model.name}" == start), None)
    if row is None:
        return train
    return train.model_copy(update={"backbone": architecture_of(row), "stem": row.stem})


def model_problems(raw: dict[str, Any]) -> Iterator[Problem]:
    """Find what is wrong with the rows of `models`, besides their form."""
    from reprise.networks.backbone import backbone_named

    names: list[str] = []
    for index, row in rows_of_models(raw):
        where = f"models[{index}]"
        if row.name in names:
            yield Problem("models", "two rows may not have the same name", row.name, " Rename or remove one.")
        names.append(row.name)
        if row.model is not None:
            continue  # stages.check.rules.models
        if not row.weights.startswith(TIMM) and Path(row.weights).parts[:1] == ("data",):
            yield Problem(
                f"{where}.weights",
                "these weights are made by the graph itself, and DVC would not see that a row depends on them",
                row.weights,
                " Copy the folder out of `data` (`reprise get RUN --out FOLDER`) and name the copy.",
            )
            continue
        try:
            backbone_named(architecture_of(row))
        except RepriseError as error:
            field = "weights" if row.architecture is None else "architecture"
            yield Problem(f"{where}.{field}", error.what, error.found, f" {error.fix}")


def start_problems(raw: dict[str, Any], runs: list[tuple[int, RunRow, Any, Any]]) -> Iterator[Problem]:
    """Find runs that start from weights, or learn from a network, that they cannot have.

    Args:
        raw: the content of params.yaml.
        runs: index, row, method class and block of each well-formed run.
    """
    known = [f"models/{row.name}" for row in models_of(raw)]
    trained = [f"models/{row.name}" for _, row in rows_of_models(raw) if row.model is not None]
    for index, row, method_class, block in runs:
        where = f"runs[{index}]"
        for field, name in (("from", row.start), ("teacher", row.teacher)):
            if name in trained:
                rule = "a run starts from a backbone, and this row of 'models' is trained here and is none"
                hint = f" Write {RANDOM}, or a row of 'models' with `weights`; extractors may use this one."
                yield Problem(f"{where}.{field}", rule, name, hint)
            elif name not in (None, RANDOM, *known):
                hint = nearest(name, known) or f" Known: {', '.join(known) or 'none'}."
                yield Problem(f"{where}.{field}", f"no row of 'models' is called '{str(name)[7:]}'", name, hint)
        if method_class is None:
            continue
        if method_class.needs_start and row.start == RANDOM:
            hint = " Write `from: models/NAME`, for a row of `models`."
            yield Problem(f"{where}.from", f"the method '{row.method}' shows weights as they are", row.start, hint)
        if method_class.needs_teacher != (row.teacher is not None):
            needs = method_class.needs_teacher
            rule = f"the method '{row.method}' learns from {'a teacher' if needs else 'no teacher'}"
            hint = " Write `teacher: models/NAME`, for a row of `models`." if needs else " Remove it."
            yield Problem(f"{where}.teacher", rule, row.teacher, hint)
        if row.start != RANDOM:
            yield from _started_problems(where, row, method_class, block)


def _started_problems(where: str, row: RunRow, method_class: Any, block: Any) -> Iterator[Problem]:
    """Find what a run that starts from weights may not have."""
    try:
        own = method_class.own_backbone(method_class.Params.model_validate(block))
    except ValidationError:
        return  # reported with the block
    if own or (method_class.gradient_free and not method_class.needs_start):
        rule = f"the method '{row.method}' has nothing to do with weights to start from"
        yield Problem(f"{where}.from", rule, row.start, " Remove it, or choose the method `published`.")
    for field in ("backbone", "stem"):
        if isinstance(block, dict) and block.get(field) is not None:
            rule = f"the weights decide on the {field} of this run"
            yield Problem(f"methods.{row.name}.{field}", rule, block[field], " Remove it.")
