"""Read params.yaml: YAML 1.2, data only, typed, with every problem reported at once.

Typed classes live beside what they configure (`stages/<stage>/params.py`, or in the plug-in's own file);
this module holds what they share; the tables that name the graph's rows are in tables.py.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from reprise.config.errors import ParameterError, listed, printable
from reprise.config.plain_yaml import content_of, plain_data
from reprise.config.texts.credentials import HIDDEN, hide_credentials
from reprise.config.texts.suggest import nearest
from reprise.config.texts.text_forms import with_pattern

PARAMS_FILE = Path("params.yaml")
_SHORT = reprlib.Repr()  # what was found, but never the whole of an alias bomb
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlist, _SHORT.maxdict = 3, 160, 160, 12, 12

_LONG = 1 << 16  # characters of a value that are looked at
_USER = re.compile(r"^([A-Za-z0-9]+:/?)[^/\s]+(?=@)")  # of an address with a slash too few
_AFTER_PATH = re.compile(r"(://[^?#\s]*[?#])\S+")
_FEW = 5  # problems that fit a line


def meaning(sentence: str, unit: str = "") -> Any:
    """Annotate a field with what it means, for `reprise params` and docs/reference/parameters.md.

    Args:
        sentence: one plain sentence, with a full stop.
        unit: a plural noun ("pixels", "epochs"); empty for names, switches, shares and weights.
    """
    return Field(description=sentence, json_schema_extra={"unit": unit} if unit else None)


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


class IntervalParams(StrictModel):
    """The part of the section `summary` that probes read too, for their intervals over examples."""

    confidence: Annotated[
        float, Field(gt=0.5, lt=1), meaning("Intervals have this confidence, and tests the level 1 - confidence.")
    ] = 0.95


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
        """The value as text, in bounded time and length; of a long address, credentials are hidden before it is cut."""
        found = _without_query(self.found) if isinstance(self.found, str) else self.found
        try:
            return printable(_SHORT.repr(found), 200)
        except ValueError:  # Python writes no number of more than some thousand digits
            return "a number of thousands of digits"

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.rule}. Found: {self.shown}.{self.hint}"


def _without_query(value: str) -> str:
    """Hide credentials, also of an address with a slash too few, and what follows its path: a token needs no name."""
    shown = _USER.sub(rf"\1{HIDDEN}", hide_credentials(value[:_LONG]))
    return _AFTER_PATH.sub(rf"\1{HIDDEN}", shown)


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
