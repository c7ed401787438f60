"""The part of params.yaml that says how views are made: short settings, or a list of changes."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails

from reprise.config.params import Probability, StrictModel, meaning, parameter_error
from reprise.config.params import Problem as ParameterProblem
from reprise.config.plug_ins.blocks import detail, refused, typed_by_name
from reprise.config.plug_ins.registry import load_class, names
from reprise.config.texts.text_forms import wrong_value
from reprise.media.lookup import IMAGE, VOLUME
from reprise.training.change import ByView, Change, CutParams, NamedChange

EXAMPLE = "crop"
# Each short setting is an option of a change, which a list states by these names. A flip's is a switch.
SHORT = {
    "crop_scale_min": ("crop", "scale_min"),
    "crop_aspect": ("crop", "aspect"),
    "flip": ("flip", "probability"),
    "jitter": ("colour", "strength"),
    "saturation": ("colour", "saturation"),
    "hue": ("colour", "hue"),
    "grey": ("grey", "probability"),
    "blur": ("blur", "probability"),
    "solarize": ("solarize", "probability"),
}
VOLUME_CHANGES: tuple[dict[str, Any], ...] = (
    {"name": "volume_crop"},
    {"name": "volume_flip"},
    {"name": "volume_intensity"},
    {"name": "volume_blur"},
    {"name": "volume_noise"},
)
STANDARD = tuple(dict.fromkeys(change for change, _ in SHORT.values()))  # in the order in which they happen


def typed_change(block: Any) -> Any:
    """Turn a name, or a block with a name, into the parameters of that change.

    Raises:
        ValidationError: with the key of each problem.
        PydanticCustomError: the value is neither a name nor a block with a name.
    """
    if isinstance(block, NamedChange):
        return block
    return typed_by_name("changes", Change, {"name": block} if isinstance(block, str) else block, EXAMPLE)


def _typed_changes(blocks: Any) -> Any:
    """Turn a list of names and blocks into parameters; a change is listed once, and a cut stands first."""
    if not isinstance(blocks, list | tuple):
        raise wrong_value("must be a list of changes", f" Write [{EXAMPLE}, ...], for example.")
    found: list[Any] = []
    problems: list[InitErrorDetails] = []
    for place, block in enumerate(blocks):
        try:
            found.append(typed_change(block))
        except ValidationError as error:
            problems += [
                detail((place, *item["loc"]), item["ctx"]["rule"], item["input"], item["ctx"]["hint"])
                for item in error.errors(include_url=False)
            ]
        except Exception as error:  # the block has no form that could name a change
            if not hasattr(error, "context"):
                raise
            problems.append(detail((place,), error.context["rule"], block, error.context["hint"]))
    if not problems:
        problems = _misplaced(found)
    if problems:
        raise refused(problems)
    return tuple(found)


def _misplaced(changes: list[Any]) -> list[InitErrorDetails]:
    times = Counter(params.name for params in changes)
    found = [
        detail((place, "name"), "a change is listed once", params.name, " Remove one of them.")
        for place, params in enumerate(changes)
        if times[params.name] > 1 and params.name in [earlier.name for earlier in changes[:place]]
    ]
    return found + [
        detail((place, "name"), "a cut stands first: it makes the square that all others change", params.name, "")
        for place, params in enumerate(changes)
        if place and isinstance(params, CutParams)
    ]


def _further_changes(blocks: Any) -> Any:
    """Type the changes that come after the short settings, which have names of their own for the standard ones."""
    if blocks is None:
        return None
    changes = _typed_changes(blocks)
    problems = [
        detail((place, "name"), "the short settings beside `also` have this change", params.name, _short_names(params))
        for place, params in enumerate(changes)
        if params.name in STANDARD
    ] + [
        detail((place, "name"), "a cut stands first, and here comes after the crop", params.name, " List all changes.")
        for place, params in enumerate(changes)
        if isinstance(params, CutParams) and params.name not in STANDARD
    ]
    if problems:
        raise refused(problems)
    return changes


def _short_names(params: Any) -> str:
    own = [f"`{name}`" for name, (change, _) in SHORT.items() if change == params.name]
    return f" Set {' or '.join(own)} instead, or list all changes."


Changes = tuple[SerializeAsAny[NamedChange], ...]


class ViewParams(StrictModel):
    """How images are changed at random; None takes what suits the source (data/ingest/views.json)."""

    crop_scale_min: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        meaning("The smallest random crop covers this share of the image's area."),
    ] = None
    crop_aspect: Annotated[
        Annotated[float, Field(ge=1, le=10)] | None,
        meaning("Crops are at most this many times as wide as high, or as high as wide; null takes 4 / 3."),
    ] = None
    flip: Annotated[bool | None, meaning("Images are mirrored left to right with probability 0.5.")] = None
    jitter: Annotated[
        Annotated[float, Field(ge=0, le=2)] | None,
        meaning("Brightness and contrast change by up to 0.8 times this; 0 switches all changes of colour off."),
    ] = None
    saturation: Annotated[
        Annotated[float, Field(ge=0, le=2)] | None,
        meaning("The saturation changes by up to this share; null takes 0.8 times `jitter`."),
    ] = None
    hue: Annotated[
        Annotated[float, Field(ge=0, le=0.5)] | None,
        meaning("The hue turns by up to this share of a circle; null takes 0.2 times `jitter`."),
    ] = None
    grey: Annotated[Probability | None, meaning("An image loses its colours with this probability.")] = None
    blur: Annotated[
        ByView | None,
        meaning(
            "A view is blurred with this probability; a list has one for each view, the last also for further ones."
        ),
    ] = None
    solarize: Annotated[
        ByView | None,
        meaning("The bright pixels of a view are inverted with this probability; a list is read as in `blur`."),
    ] = None
    also: Annotated[  # written to config.json only where it is set
        Annotated[Changes, BeforeValidator(_further_changes)] | None,
        Field(exclude_if=lambda value: value is None),
        meaning("These changes come after those above: a list of names, or of blocks with a name and options."),
    ] = None


def typed_views(value: Any) -> Any:
    """Turn short settings, or a list of changes, into typed parameters.

    Raises:
        ValidationError: with the place of each problem: `[2].probability`, `jitter`.
    """
    if value is None or isinstance(value, ViewParams):
        return value
    if isinstance(value, dict):
        return ViewParams.model_validate(value)
    if isinstance(value, list | tuple):
        return _typed_changes(value)
    raise wrong_value("must be a block of short settings, or a list of changes", " Write `{}` for what suits.")


Views = ViewParams | tuple[NamedChange, ...]
# The type of a field that says how views are made. None passes where the field's default is None.
ViewsBlock = Annotated[ViewParams | Changes, BeforeValidator(typed_views)]
OptionalViewsBlock = Annotated[ViewParams | Changes | None, BeforeValidator(typed_views)]


def merged_views(below: Any, above: Any, where: str) -> Any:
    """Let the views of a run replace parts of those below it: of its recipe, or of `train`.

    A list replaces everything. Short settings replace each its own option, also in a list below.

    Args:
        below, above: either form, typed or as read from a file.
        where: the parameter that `above` comes from, for messages.

    Raises:
        ParameterError: a short setting belongs to a change that the list below does not have.
    """
    if isinstance(above, list | tuple):
        return above
    own = {name: value for name, value in dict(above).items() if value is not None}
    if not isinstance(below, list | tuple):
        return {**{name: value for name, value in dict(below).items() if value is not None}, **own}
    changes = {params.name: dict(params) for params in _typed_changes(below)}
    wrong = []
    for name, value in own.items():
        if name == "also":
            changes |= {params.name: dict(params) for params in _further_changes(value)}
            continue
        change, option = SHORT[name]
        if change in changes:
            changes[change][option] = (0.5 if value else 0.0) if name == "flip" else value
            if name == "jitter" and not value:  # which switches saturation and hue off, too
                changes[change]["probability"] = 0.0
        elif value:
            rule = f"the list of changes that this would replace a part of has no `{change}`"
            wrong.append(ParameterProblem(f"{where}.{name}", rule, value, " List all changes of this run."))
    if wrong:
        raise parameter_error(wrong)
    return list(changes.values())


def change_named(name: str, **options: Any) -> Change:
    """Build a change of this name; see `typed_change`.

    Raises:
        ParameterError: there is no such change, or it does not take these options.
    """
    try:
        return build_change(typed_change({"name": name, **options}))
    except ValidationError as error:
        raise parameter_error(
            ParameterProblem(f"train.views: {name}", item["ctx"]["rule"], item["input"], item["ctx"]["hint"])
            for item in error.errors(include_url=False)
        ) from error


def build_change(params: Any) -> Change:
    """Build the change that `params` name.

    Raises:
        ParameterError: there is no such change.
    """
    return load_class("changes", params.name, Change, "train.views")(params)  # type: ignore[type-abstract]


def changes_named(views: Any, modality: str = IMAGE) -> list[str]:
    """Name the changes that a run may make: those of a list, or those that short settings may stand for.

    Args:
        views: typed parameters.
        modality: the kind of the samples.
    """
    if not isinstance(views, ViewParams):
        return [params.name for params in views]
    known = names("changes")
    standard = STANDARD if modality == IMAGE else [str(block["name"]) for block in suggested_changes(modality)]
    return [name for name in standard if name in known] + [params.name for params in views.also or ()]


def suggested_changes(modality: str) -> tuple[dict[str, Any], ...]:
    """Return the blocks of changes that suit samples of a kind, where the user lists none; of images a source says it.

    A volume is cut, mirrored along each axis, and changed in its values: what Chen et al. (SimCLR, ICML 2020) found
    for pictures, without colours. Mirroring suits what has no handedness; list the others where it has.
    """
    return VOLUME_CHANGES if modality == VOLUME else ()
