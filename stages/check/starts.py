"""The table `models`, and the runs that start from its rows or from other runs, or learn from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reprise.artifacts.models import architecture_of
from reprise.config.errors import RepriseError
from reprise.config.params import Problem
from reprise.config.tables import RANDOM, TIMM, AdaptRow, AnyRun, ModelRow, RunRow
from reprise.config.texts.suggest import nearest
from reprise.training.params import TrainParams
from stages.check.plug_ins import plug_in_class
from stages.check.rows import listed_in


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


@dataclass(frozen=True)
class Network:
    """The network that a run trains: a backbone's name and options, and its stem."""

    architecture: str
    options: dict[str, Any]
    stem: str


def network_started(start: str, raw: dict[str, Any]) -> Network | None:
    """Return the network of the weights that a run starts from; None for random weights, or where no row fits.

    Args:
        start: `random`, `models/<name>` or `runs/<name>`.
        raw: the content of params.yaml.

    Raises:
        BackboneError: a row of `models` names a folder that cannot be read.
    """
    seen: set[str] = set()
    while start.startswith("runs/") and start not in seen:  # `check` refuses circles, and may not hang in one
        seen.add(start)
        listed = _row_of(start.removeprefix("runs/"), raw)
        if listed is None:
            return None
        row, method_class, params = listed
        if own := method_class.own_backbone(params):
            return Network(own[0], dict(own[1]), str(_trained(params, raw).stem))
        if row.start == RANDOM:
            train = _trained(params, raw)
            return Network(train.backbone, {}, train.stem)
        start = row.start
    model = next((model for model in models_of(raw) if f"models/{model.name}" == start), None)
    return None if model is None else Network(architecture_of(model), {}, model.stem)


def _row_of(name: str, raw: dict[str, Any]) -> tuple[AnyRun, Any, Any] | None:
    """Find the row of `runs` or `adapt` with this name, the class of its method and its typed block; None if wrong."""
    for table, model in (("runs", RunRow), ("adapt", AdaptRow)):
        for listed in listed_in(raw, table):
            if isinstance(listed, dict) and listed.get("name") == name:
                with suppress(ValidationError, RepriseError, KeyError, TypeError):
                    row = model.model_validate(listed)
                    method_class: Any = plug_in_class("methods", row.method)
                    return row, method_class, method_class.Params.model_validate(raw["methods"][name])
    return None


def _trained(params: Any, raw: dict[str, Any]) -> TrainParams:
    """Return the budget of a run, with what it replaces of `train`."""
    budget: TrainParams = params.applied_to(TrainParams.model_validate(raw.get("train")))
    return budget


def as_started(train: TrainParams, start: str, raw: dict[str, Any]) -> TrainParams:
    """Return the budget of a run with the network of the weights that it starts from; see `network_started`.

    Args:
        train: with what the run replaces.
        start: `random`, `models/<name>` or `runs/<name>`.
        raw: the content of params.yaml.

    Raises:
        BackboneError: the row names a folder that cannot be read.
    """
    network = network_started(start, raw)
    if network is None:
        return train
    return train.model_copy(update={"backbone": network.architecture, "stem": network.stem})


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


def start_problems(raw: dict[str, Any], runs: list[tuple[str, AnyRun, Any, Any]]) -> Iterator[Problem]:
    """Find runs that start from weights, or learn from a network, that they cannot have.

    Args:
        raw: the content of params.yaml.
        runs: place ("runs[0]"), row, method class and block of each well-formed row of `runs` and `adapt`.
    """
    known = [f"models/{row.name}" for row in models_of(raw)]
    trained = [f"models/{row.name}" for _, row in rows_of_models(raw) if row.model is not None]
    classes = {row.name: method_class for _, row, method_class, _ in runs}
    for where, row, method_class, block in runs:
        for field, name in (("from", row.start), ("teacher", row.teacher)):
            if name in trained:
                rule = "a run starts from a backbone, and this row of 'models' is trained here and is none"
                hint = f" Write {RANDOM}, or a row of 'models' with `weights`; extractors may use this one."
                yield Problem(f"{where}.{field}", rule, name, hint)
            elif isinstance(row, RunRow) and name not in (None, RANDOM, *known):
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
            hint = " Use it in a row of `runs`." if needs and isinstance(row, AdaptRow) else hint
            yield Problem(f"{where}.teacher", rule, row.teacher, hint)
        if isinstance(row, AdaptRow):
            yield from _adapted_problems(where, row, method_class, classes.get(row.parent))
        if row.start != RANDOM:
            yield from _started_problems(where, row, method_class, block, raw)


def _adapted_problems(where: str, row: AdaptRow, method_class: Any, parent_class: Any) -> Iterator[Problem]:
    """Find what a run that goes on from another may not have."""
    if method_class.gradient_free:
        rule = f"the method '{row.method}' takes no steps, so nothing would go on"
        yield Problem(f"{where}.method", rule, row.method, " Choose a method that trains.")
    if parent_class is not None and not parent_class.trainable:
        rule = f"the backbone of '{row.parent}' has no weights that learn by gradients"
        yield Problem(f"{where}.from", rule, row.start, " Name another run.")


def _started_problems(where: str, row: AnyRun, method_class: Any, block: Any, raw: dict[str, Any]) -> Iterator[Problem]:
    """Find what a run that starts from weights may not have."""
    try:
        own = method_class.own_backbone(method_class.Params.model_validate(block))
    except ValidationError:
        return  # reported with the block
    if isinstance(row, AdaptRow):
        network = network_started(row.start, raw)
        if own and network is not None and (network.architecture, network.options) != (own[0], dict(own[1])):
            rule = f"the method '{row.method}' brings its own network, and that of '{row.parent}' is another"
            hint = " Give both runs the same method and options of the network."
            yield Problem(f"{where}.from", rule, f"{network.architecture} {network.options}", hint)
    elif own or (method_class.gradient_free and not method_class.needs_start):
        rule = f"the method '{row.method}' has nothing to do with weights to start from"
        yield Problem(f"{where}.from", rule, row.start, " Remove it, or choose the method `published`.")
    for field in ("backbone", "stem"):
        if isinstance(block, dict) and block.get(field) is not None:
            rule = f"the weights decide on the {field} of this run"
            yield Problem(f"methods.{row.name}.{field}", rule, block[field], " Remove it.")
