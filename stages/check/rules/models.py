"""The rows of `models` that are trained here: their kinds, their blocks in `model_options`, and who uses them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from reprise.config.errors import RepriseError
from reprise.config.params import Problem, problems_of
from reprise.config.plug_ins.registry import module_of, names
from reprise.config.tables import FeaturesRow, ModelRow
from reprise.config.texts.suggest import nearest
from stages.check.plug_ins import plug_in_class
from stages.check.starts import rows_of_models

OPTIONS = "model_options"  # the section with one block per trained row


def trained_problems(raw: dict[str, Any], classes: Mapping[str, type]) -> Iterator[Problem]:
    """Find what is wrong with trained models, and with extractors that name none of them.

    Args:
        raw: the content of params.yaml.
        classes: the extractor of each well-formed row of `features` ("features.<name>").
    """
    rows, listed = rows_of_models(raw), raw.get("models")
    trained = [(index, row) for index, row in rows if row.model is not None]
    known = [row.name for _, row in trained]
    all_known = len(rows) == (len(listed) if isinstance(listed, list) else 0)  # rows of no form are reported already
    blocks = raw.get(OPTIONS)
    if not isinstance(blocks, dict):
        rule = "must hold one block per row of 'models' that is trained here"
        yield Problem(OPTIONS, rule, _brief(blocks), f" Write `{OPTIONS}: {{}}` where there is none.")
        blocks = {row.name: {} for _, row in trained}
    for name, block in blocks.items():
        if name not in known and all_known:
            rule = "this block belongs to no row of 'models' that is trained here"
            yield Problem(f"{OPTIONS}.{name}", rule, _brief(block), nearest(name, known) or " Remove it.")
    for index, row in trained:
        yield from _row_problems(index, row, blocks)
    if all_known:
        yield from _user_problems(raw, classes, known)


def modules_of_trained(raw: dict[str, Any]) -> dict[str, list[str]]:
    """Name the modules of each model that is trained here: its kind's, and what that looks up by name.

    Args:
        raw: the content of params.yaml, which has been checked.
    """
    found = {}
    for row in (row for _, row in rows_of_models(raw) if row.model is not None):
        model_class: Any = plug_in_class("models", str(row.model))
        params = model_class.Params.model_validate((raw.get(OPTIONS) or {}).get(row.name, {}))
        found[row.name] = [module_of("models", str(row.model)), *model_class.modules(params)]
    return found


def _row_problems(index: int, row: ModelRow, blocks: Mapping[str, Any]) -> Iterator[Problem]:
    where, place = f"models[{index}].model", f"{OPTIONS}.{row.name}"
    if row.name not in blocks:
        yield Problem(place, f"row {index} of 'models' has no block", None, f" Add `{row.name}: {{}}`.")
    kinds = names("models")
    if row.model not in kinds:
        hint = nearest(row.model, kinds) or f" Known: {', '.join(kinds)}."
        yield Problem(where, "unknown model", row.model, hint)
        return
    try:
        model_class: Any = plug_in_class("models", str(row.model), where)
    except RepriseError as error:
        yield Problem(where, error.what, error.found, f" {error.fix}")
        return
    block = blocks.get(row.name, {})
    if not isinstance(block, dict):
        yield Problem(place, "must be a block of parameters", _brief(block), " Write `{}` for the defaults.")
        return
    yield from problems_of(model_class.Params, block, place)


def _user_problems(raw: dict[str, Any], classes: Mapping[str, type], known: list[str]) -> Iterator[Problem]:
    """Find extractors that name a model which is not trained here."""
    blocks = raw.get("extractors")
    for row in raw["features"] if isinstance(raw.get("features"), list) else ():
        try:
            name = FeaturesRow.model_validate(row).name
            extractor: Any = classes[f"features.{name}"]
            model = extractor.model_of(extractor.Params.model_validate(blocks[name]))  # type: ignore[index]
        except (ValidationError, KeyError, TypeError):
            continue  # reported with the table and the block
        if model is not None and model not in known:
            rule = "no row of 'models' that is trained here is called this"
            hint = nearest(model, known) or f" Known: {', '.join(known) or 'none'}."
            yield Problem(f"extractors.{name}.model", rule, model, hint)


def _brief(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | type(None)) else type(value).__name__
