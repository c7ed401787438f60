"""All parameters that a section of params.yaml or a plug-in has, with their dotted names, as data to be shown."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from reprise.config.errors import ParameterError, printable
from reprise.config.params import StrictModel, read_yaml
from reprise.config.plug_ins.docstrings import documentation_of, first_paragraph, source_in
from reprise.config.plug_ins.registry import kinds, kinds_named, location, names, origin
from reprise.config.tables import Tables
from reprise.config.texts.suggest import nearest
from stages.check.description.value_words import allowed_values, default_of, yaml_text
from stages.check.parameters import known_sections
from stages.check.plug_ins import COMPARISON, ON_IMAGES, ON_SHIFTS, base_class, plug_in_class
from stages.check.rows import listed_in

SECTION = "params"  # the kind of what is no plug-in: a section or a table of params.yaml

# Kind -> the block of params.yaml that holds a plug-in's parameters; {name} is the plug-in's, <name> a row's.
_BLOCKS = {
    "sources": "source.options",
    "extractors": "extractors.<name>",
    "miners": "mining.<name>",
    "models": "model_options.<name>",
    "methods": "methods.<name>",
    "schedules": "train.schedule",
    "changes": "train.views[]",
    "shifts": "shifts[].options",
    "watches": "train.watches.{name}",
    "backbones": "",  # set by methods, not in params.yaml
    f"probes/{COMPARISON}": f"{COMPARISON}.probes.{{name}}",
    **{f"probes/{suite}": f"image_probes.{suite}.{{name}}" for suite in ON_IMAGES},
    **{f"probes/{suite}": f"shift_probes.{suite}.{{name}}" for suite in ON_SHIFTS},
    "probes": "{kind}.{name}",
}
# The section with a block per row -> its tables, and the field that names the plug-in.
_TABLES = {
    "extractors": (("features",), "extractor"),
    "mining": (("mines",), "miner"),
    "model_options": (("models",), "model"),
    "methods": (("runs", "adapt"), "method"),
}


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        name: dotted, as in params.yaml ("train.epochs", "methods.<name>.temperature").
        values: the type and range, or the choices.
        default: as params.yaml would show it; "required" where there is none.
        unit: a plural noun; empty where there is none.
        meaning: one sentence.
        note: a further sentence; empty for most.
    """

    name: str
    values: str
    default: str
    unit: str
    meaning: str
    note: str = ""


@dataclass(frozen=True)
class Subject:
    """A section of params.yaml or a plug-in, with its parameters.

    Attributes:
        kind: `SECTION` or a kind of plug-in ("methods", "probes/quality").
        name: of the section or plug-in.
        title: the first sentence of its documentation.
        source: the publication that a plug-in names; empty where it names none.
        origin: "Reprise", "plugins/" or an installed package; empty for sections.
        notes: further sentences.
        parameters: in the order of params.yaml and of the classes.
    """

    kind: str
    name: str
    title: str
    source: str
    origin: str
    notes: tuple[str, ...]
    parameters: tuple[Parameter, ...]


def subjects() -> dict[str, list[str]]:
    """List all names by kind: the sections and tables of params.yaml first, then the plug-ins."""
    return {SECTION: [*Tables.model_fields, *known_sections()], **{kind: names(kind) for kind in kinds()}}


def find(word: str) -> tuple[str, str]:
    """Find the kind and name that a word means: "simclr", "methods/simclr", "probe/knn" or "probes/quality/knn".

    Raises:
        ParameterError: nothing has that name, or several things have it.
    """
    wanted_kind, _, wanted = word.rpartition("/")
    kinds_meant = [SECTION] if wanted_kind == SECTION else kinds_named(wanted_kind) if wanted_kind else None
    known = [(kind, name) for kind, listed in subjects().items() for name in listed]
    fitting = [(kind, name) for kind, name in known if name == wanted and (kinds_meant is None or kind in kinds_meant)]
    if len(fitting) > 1:  # sections of the report have no parameters, so they give way
        fitting = [(kind, name) for kind, name in fitting if kind != "sections"]
    if len(fitting) == 1:
        return fitting[0]
    full = [f"{kind}/{name}" for kind, name in fitting or known]
    if fitting:
        raise ParameterError(
            f"several things are called '{word}'",
            where="reprise params",
            found=", ".join(full),
            fix="Write one of these.",
        )
    raise ParameterError(
        f"neither a section of params.yaml nor a plug-in is called '{word}'",
        where="reprise params",
        found=word,
        fix=f"`reprise params` lists all names.{nearest(word, [*(name for _, name in known), *full])}",
    )


def subject_named(word: str) -> Subject:
    """Describe what a word means; of a dotted name, the one parameter, with those of the block that it holds.

    The row of a table may be named, or written as `<name>`: "methods.simclr.temperature" is a parameter of the method
    that the row `simclr` of params.yaml uses, or of the plug-in `simclr` where there is no such row.

    Raises:
        ParameterError: nothing has that name, or the plug-in cannot be imported.
    """
    if "." not in word or "/" in word:
        return describe(*find(word))
    owner = _owner(word.split("."))
    if owner is None:
        return describe(*find(word))
    subject, prefix, rest = owner
    known = {p.name: p for p in subject.parameters}
    wanted = f"{prefix}.{rest}" if rest else prefix
    chosen = tuple(p for name, p in known.items() if name == wanted or name.startswith((f"{wanted}.", f"{wanted}[]")))
    if not chosen:
        raise ParameterError(
            f"{printable(subject.name)} has no such parameter",
            where="reprise params",
            found=word,
            fix=f"`reprise params {subject.kind}/{subject.name}` lists what it has.{nearest(wanted, list(known))}",
        )
    return replace(subject, parameters=chosen)


def _owner(parts: list[str]) -> tuple[Subject, str, str] | None:
    """Find the section or plug-in that a dotted name begins with.

    Returns:
        It, the prefix of its parameters' names, and the rest of the dotted name; None where no section is meant.
    """
    first, rest = parts[0], parts[1:]
    if first in known_sections() and not (first == "source" and rest[:1] == ["options"]):
        return describe(SECTION, first), first, ".".join(rest)
    for kind, block in _BLOCKS.items():
        head, marker, _ = block.partition(".<name>")
        if marker and head == first and len(rest) > 1:
            plug_in = _plug_in_of_row(kind, first, rest[0])
            return (describe(kind, plug_in), block, ".".join(rest[1:])) if plug_in in names(kind) else None
    if first in ("probes", "image_probes", "shift_probes") and len(rest) > 2 and f"probes/{rest[0]}" in kinds():
        kind, name = f"probes/{rest[0]}", rest[1]
        prefix = ".".join([first, *rest[:2]])
        return (describe(kind, name), prefix, ".".join(rest[2:])) if name in names(kind) else None
    return None


def _plug_in_of_row(kind: str, section: str, row: str) -> str:
    """Return the plug-in that a row of params.yaml uses; the name itself where there is no such row."""
    tables, field = _TABLES[section]
    try:
        raw = read_yaml()
    except ParameterError:
        return row
    for listed in [one for table in tables for one in listed_in(raw, table)]:
        if isinstance(listed, dict) and listed.get("name") == row and listed.get(field) in names(kind):
            return str(listed[field])
    return row


def kinds_meant(word: str) -> list[str]:
    """List the kinds that a word means as a whole; none where it means a section of params.yaml, or one plug-in."""
    if word in subjects()[SECTION]:
        return []
    try:
        return kinds_named(word)
    except ParameterError:
        return []


def describe(kind: str, name: str) -> Subject:
    """Collect what there is to say about a section or plug-in.

    Raises:
        ParameterError: the plug-in cannot be imported.
    """
    if kind == SECTION:
        return _section(name)
    documentation = documentation_of(location(kind, name))
    title, source = first_paragraph(documentation), source_in(documentation)
    title = title[:1].upper() + title[1:]
    plug_in = plug_in_class(kind, name)
    model: type[StrictModel] | None = getattr(plug_in, "Params", None)
    block = _BLOCKS.get(kind) or _BLOCKS.get(kind.partition("/")[0], "")
    block = block.format(kind=kind.replace("/", "."), name=name)
    found = tuple(_parameters(model, block)) if model else ()
    if kind == "schedules":  # the base has `name`, which chooses the schedule
        found = tuple(p for p in found if p.name != "train.schedule.name")
    if kind == "watches":  # likewise; the key of its block is its name
        found = tuple(p for p in found if p.name != f"{block}.name")
    if kind == "methods":
        found = tuple(_as_train_says(p) for p in found)
    notes = (*_needs(kind, plug_in), *_recipe(model))
    return Subject(kind, name, title, source, origin(kind, name), notes, found)


def _section(name: str) -> Subject:
    sections = known_sections()
    if name not in sections:
        found = tuple(_fields({name: Tables.model_fields[name]}, ""))
        return Subject(SECTION, name, "", "", "", (), found)
    model = sections[name]
    title = " ".join((model.__doc__ or "").split("\n\n")[0].split())
    found = tuple(_parameters(model, name))
    if name == "train":
        replaced_by = {f"train.{in_train}": field for field, in_train in _replaceable().items()}
        found = tuple(
            replace(p, note=f"A run may replace it by `methods.<name>.{replaced_by[p.name]}`.")
            if p.name in replaced_by
            else p
            for p in found
        )
    return Subject(SECTION, name, title, "", "", (), found)


def _parameters(model: type[BaseModel], prefix: str) -> Iterator[Parameter]:
    yield from _fields(model.model_fields, prefix)


def _fields(fields: dict[str, Any], prefix: str) -> Iterator[Parameter]:
    """Describe fields, and after each those of the blocks that it holds."""
    for name, field in fields.items():
        path = f"{prefix}.{field.alias or name}".removeprefix(".")
        unit = (field.json_schema_extra or {}).get("unit", "")
        yield Parameter(path, allowed_values(field), default_of(field), unit, field.description or "")
        for inner, place in _blocks_in(field.annotation):
            yield from _parameters(inner, path + place)


def _blocks_in(annotation: Any, place: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """Find the blocks in a type, each with its place in the field: an item of a list, or what a name stands for."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, place
    inside = {list: "[]", tuple: "[]", dict: ".<name>"}.get(get_origin(annotation), "")
    for part in get_args(annotation):
        yield from _blocks_in(part, place or inside)


def _replaceable() -> dict[str, str]:
    """Map the parameters by which a run replaces fields of `train` to the names of these fields."""
    module = importlib.import_module("stages.pretrain.params")
    return {field: module.NAMES_IN_TRAIN.get(field, field) for field in module.MethodParams.model_fields}


def _as_train_says(parameter: Parameter) -> Parameter:
    """Say of a method's parameter that replaces one of `train` that `train` has the default."""
    in_train = _replaceable().get(parameter.name.partition(">.")[2])
    if in_train is None or parameter.default != "null":
        return parameter
    return replace(parameter, default=f"train.{in_train}")


def _needs(kind: str, plug_in: type | None) -> Iterator[str]:
    """Say what a method or probe needs besides images, and what it brings itself."""
    if "clusters" in getattr(plug_in, "needs", ()):
        yield "It needs a label set."
    if kind == "backbones" and _has_options(plug_in):
        yield "Methods and `config.json` set these options; params.yaml does not."
    if getattr(plug_in, "needs_labels", False):
        yield "It needs labels."
    if getattr(plug_in, "needs_augmented", False):
        yield "It needs embeddings of changed images: embed.augmented."
    if getattr(plug_in, "needs_shifted", False):
        yield "It needs rows of `shifts`."
    if getattr(plug_in, "uses_truth", False):
        yield "It reads true labels."
    if kind != "methods" or plug_in is None:
        return
    if getattr(plug_in, "needs_pairs", False):
        yield "It needs a label set of pairs."
    if getattr(plug_in, "gradient_free", False):
        yield "It learns without gradients."
    if _overrides(plug_in, kind, "own_backbone"):
        yield "It brings its own network in place of train.backbone."
    if _overrides(plug_in, kind, "view_plan"):
        yield "It makes its own crops."


def _has_options(plug_in: type | None) -> bool:
    return bool(getattr(plug_in, "Params", StrictModel).model_fields)


def _overrides(plug_in: type, kind: str, name: str) -> bool:
    """Whether a plug-in has its own form of a method of its base class."""
    own, base = (inspect.getattr_static(place, name) for place in (plug_in, base_class(kind)))
    return own is not base


def _recipe(model: type[StrictModel] | None) -> Iterator[str]:
    """Say what the recipe of a method's paper sets."""
    paper = getattr(model, "PAPER", None)
    if model is None or not paper:
        return
    name = get_args(model.model_fields["recipe"].annotation)[1]  # `paper`, or `paper_optimizer`
    yield f"With `recipe: {name}` a run takes, wherever it sets nothing itself: {yaml_text(paper)[1:-1]}."
    if large := getattr(model, "PAPER_LARGE_BATCH", None):
        batch = importlib.import_module("stages.pretrain.params").LARGE_BATCH
        yield f"From batches of {batch} images on it takes: {yaml_text(large)[1:-1]}."
