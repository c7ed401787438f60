"""Read params.yaml: YAML 1.2, data only, typed, with every problem reported at once.

Typed classes live beside what they configure (`stages/<stage>/params.py`, or in the plug-in's own file);
this module holds what they share and the four tables that name the graph's rows.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from reprise.config.errors import ParameterError, listed, printable
from reprise.config.plain_yaml import content_of, plain_data
from reprise.config.suggest import nearest
from reprise.config.text_forms import NAME, Name, plug_in_name, with_pattern

PARAMS_FILE = Path("params.yaml")
_SHORT = reprlib.Repr()  # what was found, but never the whole of an alias bomb
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlist, _SHORT.maxdict = 3, 160, 160, 12, 12

_FEW = 5  # problems that fit a line


def meaning(sentence: str, unit: str = "") -> Any:
    """Annotate a field with what it means, for `reprise params` and docs/reference/parameters.md.

    Args:
        sentence: one plain sentence, with a full stop.
        unit: a plural noun ("pixels", "epochs"); empty for names, switches, shares and weights.
    """
    return Field(description=sentence, json_schema_extra={"unit": unit} if unit else None)


FeaturesName = Annotated[
    str,
    with_pattern(
        rf"(features|embed)/{NAME.pattern}",
        "write features/<name> for a row of 'features', or embed/<name> for a row of 'runs'",
    ),
]
MetricName = Annotated[
    str, with_pattern(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*", "write <probe>.<metric>, for example knn.top1")
]
BackboneName = Annotated[
    str,
    Field(max_length=100),
    with_pattern(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "the name of a backbone has letters, digits, underscores and dots"),
]
MOST_BANDS = 64  # of an image
Seed = Annotated[int, Field(ge=0, lt=2**31)]


Probability = Annotated[float, Field(ge=0, le=1)]


class StrictModel(BaseModel):
    """Base of all typed parameters: frozen, no unknown keys, no coercion ('3' is not 3), no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ImageParams(StrictModel):
    """The images as every network sees them; features, pretrain and embed share this section."""

    size: Annotated[int, Field(ge=8, le=1024), meaning("Every network sees square images of this side.", "pixels")]
    channels: Annotated[
        int,
        Field(ge=1, le=MOST_BANDS),
        meaning(
            "Networks see images in colour (3), in shades of grey (1), or with all bands of images that have so many.",
            "bands",
        ),
    ]

    @field_validator("channels", mode="before")
    @classmethod
    def _a_number(cls, value: object) -> object:
        """Refuse `true`, which equals 1 in Python."""
        if isinstance(value, bool):
            raise ValueError("input should be a whole number")
        return value


class FeaturesRow(StrictModel):
    """A row of `features`: images described once, for any number of label sets."""

    name: Annotated[Name, meaning("Label sets refer to these features as `features/<name>`.")]
    extractor: Annotated[str, plug_in_name("extractors"), meaning("This extractor describes the images.")]


NONE, TRUTH = "none", "truth"  # label sets that always exist: stages/mine/given.py


class MineRow(StrictModel):
    """A row of `mines`: a label set."""

    name: Annotated[Name, meaning("Runs refer to this label set by its name.")]
    miner: Annotated[str, plug_in_name("miners"), meaning("This miner finds the clusters or pairs.")]
    on: Annotated[
        FeaturesName,
        meaning("The miner reads a row of `features` (features/<name>) or the embedding of a run (embed/<run>)."),
    ]

    @field_validator("name")
    @classmethod
    def _not_always_there(cls, value: str) -> str:
        if value in (NONE, TRUTH):
            raise ValueError("this label set is always there; remove the row, and its block in `mining`")
        return value


RANDOM = "random"  # where a run starts unless its row says otherwise
TIMM = "timm:"  # before the name of a published network
ModelName = Annotated[str, with_pattern(rf"models/{NAME.pattern}", "write models/<name> for a row of 'models'")]


class ModelRow(StrictModel):
    """A row of `models`: weights that were trained elsewhere, from which runs start or learn."""

    name: Annotated[Name, meaning("Runs refer to these weights as `models/<name>`.")]
    weights: Annotated[
        str,
        Field(min_length=1, max_length=1000),
        meaning(
            "These are published weights (`timm:NAME`), a .safetensors file, a torch file, or the folder of a finished "
            "run that lies outside of `data`."
        ),
    ]
    architecture: Annotated[
        BackboneName | None,
        meaning("A file is for this backbone or timm model; null for `timm:NAME` and for a folder, which name it."),
    ] = None
    stem: Annotated[
        Literal["auto", "small", "imagenet"], meaning("The network of a file or of `timm:NAME` has this stem.")
    ] = "imagenet"
    size: Annotated[
        Annotated[int, Field(ge=8, le=1024)] | None,
        meaning("The network sees images of this side when it is judged as it is; null takes its own.", "pixels"),
    ] = None
    part: Annotated[
        Annotated[str, Field(min_length=1, max_length=100)] | None,
        meaning("The weights are this entry of a torch file (`student`); null takes the one that authors publish."),
    ] = None
    sha256: Annotated[
        Annotated[str, with_pattern("[0-9a-f]{64}", "a SHA-256 has 64 lower-case hexadecimal digits")] | None,
        meaning("The file has this checksum; null accepts any content, and the terminal names it."),
    ] = None

    @property
    def is_file(self) -> bool:
        """Whether the weights are a file that does not say what network it is for."""
        return not self.weights.startswith(TIMM) and re.search(r"\.[A-Za-z]+$", self.weights) is not None

    @model_validator(mode="after")
    def _architecture_where_needed(self) -> Self:
        if self.is_file == (self.architecture is None):
            raise ValueError("architecture belongs to files, which need it; `timm:NAME` and folders name their own")
        return self


class RunRow(StrictModel):
    """A row of `runs`: a method, the label set it may use, and the weights that it starts from."""

    name: Annotated[Name, meaning("The run's folders, and all tables of results, carry this name.")]
    method: Annotated[str, plug_in_name("methods"), meaning("This method trains the backbone.")]
    labels: Annotated[
        Name, meaning("The method may use this label set: `none`, `truth` (the manifest's labels) or a row of `mines`.")
    ]
    start: Annotated[
        str,
        Field(alias="from"),
        with_pattern(rf"{RANDOM}|models/{NAME.pattern}", f"write {RANDOM}, or models/<name> for a row of 'models'"),
        meaning("The backbone starts from these weights: `random` ones, or a row of `models` (models/<name>)."),
    ] = RANDOM
    teacher: Annotated[
        ModelName | None, meaning("A method that learns from a frozen network learns from this row of `models`.")
    ] = None


class SuiteRow(StrictModel):
    """A row of `suites` or `image_suites`: a folder of probes under stages/probe/probes."""

    name: Annotated[Name, meaning("The probes lie in the folder of this name.")]


class IntervalParams(StrictModel):
    """The part of the section `summary` that probes read too, for their intervals over examples."""

    confidence: Annotated[
        float, Field(gt=0.5, lt=1), meaning("Intervals have this confidence, and tests the level 1 - confidence.")
    ] = 0.95


class Tables(StrictModel):
    """The lists that dvc.yaml expands into stages."""

    seeds: Annotated[
        list[Seed],
        Field(min_length=1, max_length=50),
        meaning("Every run is trained, and every label set mined, once with each of these seeds."),
    ]
    features: Annotated[
        list[FeaturesRow], meaning("Images are described once by each of these; empty where no miner reads features.")
    ]
    mines: Annotated[
        list[MineRow], meaning("These label sets are mined besides `none` and `truth`, which are always there.")
    ]
    runs: Annotated[list[RunRow], Field(min_length=1), meaning("These runs are trained, probed and compared.")]
    suites: Annotated[
        list[SuiteRow], Field(min_length=1), meaning("These suites of probes measure every run's features.")
    ]
    models: Annotated[
        list[ModelRow], meaning("Runs may start from these weights, or learn from them; none by default.")
    ] = Field(default_factory=list)
    image_suites: Annotated[
        list[SuiteRow], meaning("These suites of probes train on the images, minutes a run; none by default.")
    ] = Field(default_factory=list)


@dataclass(frozen=True)
class Problem:
    """One mistake in params.yaml.

    Attributes:
        path: the dotted name of the parameter ("train.epochs", "runs[1].method").
        rule: the rule that is broken, a clause ("input should be greater than 0").
        found: the value.
        hint: a way out, a sentence that begins with a space; empty where the rule says enough.
    """

    path: str
    rule: str
    found: object
    hint: str = ""

    @property
    def shown(self) -> str:
        """The value as text, in bounded time and length."""
        try:
            return printable(_SHORT.repr(self.found), 200)
        except ValueError:  # Python writes no number of more than some thousand digits
            return "a number of thousands of digits"

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.rule}. Found: {self.shown}.{self.hint}"


def parameter_error(problems: Iterable[Problem]) -> ParameterError:
    """Make one error of all problems, a line each."""
    lines = [str(p) for p in problems]
    several = len(lines) > 1
    return ParameterError(
        f"{len(lines)} wrong parameter{'s' if several else ''}",
        where=PARAMS_FILE,
        found=listed(lines),
        fix=f"Correct {'them' if several else 'it'}; nothing was run.",
    )


def in_one_line(problems: list[Problem]) -> str:
    """Say what is wrong with a file other than params.yaml, for the argument `found` of its error."""
    first = "; ".join(f"{printable(p.path)}: {p.rule} (found {p.shown})" for p in problems[:_FEW])
    return first if len(problems) <= _FEW else f"{first}; and {len(problems) - _FEW} more"


_kept: dict[Path, bytes] = {}  # files that this process reads as they were, whatever becomes of them


def keep_content(path: Path) -> dict[str, Any]:
    """Let every later `read_yaml` of this process see the file as it is now; return its content."""
    with suppress(OSError):  # read_yaml explains it
        _kept[path] = content_of(path)
    return read_yaml(path)


def read_yaml(path: str | Path = PARAMS_FILE, *, now: bool = False) -> dict[str, Any]:
    """Read a YAML mapping as plain data.

    Args:
        path: the file.
        now: whether to read the file itself even where an earlier content of it is kept (`keep_content`).

    Raises:
        ParameterError: missing, too large, not UTF-8, not YAML, duplicate keys, custom tags, not a mapping.
    """
    path = Path(path)
    try:
        data = content_of(path) if now or path not in _kept else _kept[path]
    except OSError as error:
        raise ParameterError(
            "cannot read the parameters",
            where=path,
            found=error.strerror,
            fix="Run in the folder that holds params.yaml."
            if isinstance(error, FileNotFoundError)
            else "Make the file readable for yourself: `ls -l` shows its owner and its permissions.",
        ) from error
    value = plain_data(data, path)
    if not isinstance(value, dict):
        raise ParameterError(
            "the parameters are not a mapping",
            where=path,
            found=type(value).__name__,
            fix="Start from the params.yaml of the repository.",
        )
    return value


M = TypeVar("M", bound=BaseModel)


def problems_of(model: type[BaseModel], raw: object, where: str) -> list[Problem]:
    """Find everything that is wrong with `raw` as a `model`, with dotted paths that start at `where`."""
    try:
        model.model_validate(raw)
    except ValidationError as error:
        return [_problem(model, item, where) for item in error.errors(include_url=False)]
    return []


def parse(model: type[M], raw: object, where: str) -> M:
    """Validate `raw` as `model`.

    Raises:
        ParameterError: with every problem found, each with its dotted path below `where`.
    """
    problems = problems_of(model, raw, where)
    if problems:
        raise parameter_error(problems)
    return model.model_validate(raw)


def _problem(model: type[BaseModel], item: Any, where: str) -> Problem:
    path = where
    for part in item["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    if item["type"] == "extra_forbidden":
        known = sorted(_fields_at(model, item["loc"][:-1]))
        hint = nearest(item["loc"][-1], known) or f" Known here: {', '.join(known) or 'nothing'}."
        return Problem(path, "unknown parameter", item["input"], hint)
    if item["type"] == "missing":
        return Problem(path, "missing parameter", None, " Add it.")
    if item["type"] == "wrong_value":
        return Problem(path, item["ctx"]["rule"], item["input"], item["ctx"]["hint"])
    if item["type"] == "string_pattern_mismatch":  # of a plug-in that does not use `with_pattern`
        return Problem(path, "the text does not have the form that this parameter needs", item["input"])
    rule = item["msg"].removeprefix("Value error, ")
    return Problem(path, rule[:1].lower() + rule[1:], item["input"])


def _fields_at(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    current: Any = model
    for part in loc:
        if isinstance(part, int):
            continue
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return []
        current = next(
            (a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if hasattr(a, "model_fields")),
            None,
        )
    return [field.alias or name for name, field in getattr(current, "model_fields", {}).items()]


def section(raw: dict[str, Any], name: str, model: type[M]) -> M:
    """Return the top-level block `name` of params.yaml as a `model`."""
    if name not in raw:
        raise parameter_error(
            [Problem(name, "missing section", None, " Start from the params.yaml of the repository.")]
        )
    return parse(model, raw[name], name)


def tables(raw: dict[str, Any]) -> Tables:
    """Return the lists that name the graph's rows."""
    return parse(Tables, {k: raw[k] for k in Tables.model_fields if k in raw}, "")


def row(rows: list[M], name: str, where: str) -> M:
    """Return the row called `name`.

    Raises:
        ParameterError: no such row.
    """
    for candidate in rows:
        if candidate.name == name:  # type: ignore[attr-defined]
            return candidate
    known = [r.name for r in rows]  # type: ignore[attr-defined]
    raise parameter_error([Problem(where, f"no row is called '{printable(name)}'", known, nearest(name, known))])
