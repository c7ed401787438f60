"""Read the plan of a sweep, expand it into named points, and write their exact values into params.yaml.

Values never pass through a command line. `dvc exp run -S key=value` parses its text with Hydra's grammar, in which
commas make choices and braces interpolate. Here a value goes from the plan into params.yaml as data, and is read back
to prove that it arrived unchanged.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from reprise.config.errors import ParameterError, SweepError, listed, printable
from reprise.config.params import MetricName, Seed, StrictModel, problems_of, read_yaml
from reprise.config.texts.text_forms import Name
from reprise.storage.atomic import atomic_file

MAX_POINTS = 500  # points of one plan
_MAX_VALUES = 10_000  # numbers and texts in a plan; YAML aliases can make a small file huge
_MAX_DEPTH = 50
_MAX_TITLE_LENGTH = 160  # characters
_KEY = re.compile(r"[A-Za-z0-9_-]+(\[[0-9]{1,4}\])*(\.[A-Za-z0-9_-]+(\[[0-9]{1,4}\])*)*")
_PART = re.compile(r"\[([0-9]+)\]|([A-Za-z0-9_-]+)")
Changes = dict[str, Any]  # dotted key of params.yaml -> value


class SweepPlan(StrictModel):
    """The parameter changes that a sweep tries, as in sweeps/*.yaml.

    Attributes:
        name: prefix of the experiments, which are called <name>-<hash of the changes>.
        grid: dotted key of params.yaml -> values; every combination is a point.
        points: the changes of each point, instead of a grid; {} is the folder as it is.
        seeds: seeds of every point; none means those of params.yaml.
        parallel: number of points that run at once, after the first.
        metric: `<probe>.<metric>` on val that the verdicts are about; None means the one of `summary.family`, on val.
        base: changes of the point that all others are compared with; None means the first point.
        curve: a key that every point sets to another number; the page then shows all runs over it.
        reference: the run that the others are compared with at each value of `curve`.
    """

    name: Name
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] | None = None
    points: Annotated[list[Changes], Field(min_length=1)] | None = None
    seeds: Annotated[tuple[Seed, ...], Field(max_length=50, strict=False)] = ()
    parallel: Annotated[int, Field(ge=1, le=64)] = 1
    metric: MetricName | None = None
    base: Changes | None = None
    curve: str | None = None
    reference: Name | None = None

    @field_validator("grid", "points", "base", mode="before")
    @classmethod
    def _check_values(cls, value: object) -> object:
        _check_value(value, 0)
        return value

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is listed twice")
        return seeds

    @model_validator(mode="after")
    def _check_points(self) -> SweepPlan:
        if (self.grid is None) == (self.points is None):
            raise ValueError("give either `grid` or `points`")
        if self.grid is not None and math.prod(map(len, self.grid.values())) > MAX_POINTS:
            raise ValueError(f"the grid has more than {MAX_POINTS} points")
        changes = self.expanded()
        if len(changes) > MAX_POINTS:
            raise ValueError(f"there are more than {MAX_POINTS} points")
        for key in sorted({key for each in changes for key in each}):
            if not _KEY.fullmatch(key):
                raise ValueError(
                    f"'{printable(key, 80)}' is not a key of params.yaml; write methods.simclr.temperature, for example"
                )
            if key == "seeds" and self.seeds:
                raise ValueError("the seeds are given twice: in `seeds` and as a parameter")
        for each in changes:
            clash = next(
                (f"{a} and {b}" for a, b in itertools.permutations(each, 2) if b.startswith((a + ".", a + "["))), ""
            )
            if clash:
                raise ValueError(f"one point sets both {clash}")
        if len({canonical(each) for each in changes}) < len(changes):
            raise ValueError("two points are the same")
        self._check_curve(changes)
        if self.base is not None and canonical(self.base) not in map(canonical, changes):
            raise ValueError("`base` is not one of the points")
        return self

    def _check_curve(self, points: Sequence[Changes]) -> None:
        if self.curve is None:
            if self.reference is not None:
                raise ValueError("`reference` belongs to `curve`, which is not given")
            return
        values = [each.get(self.curve) for each in points]
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            raise ValueError(f"every point must set '{printable(self.curve, 80)}', the key of `curve`, to a number")
        if len(set(values)) < len(values):
            raise ValueError(f"two points set '{printable(self.curve, 80)}', the key of `curve`, to the same number")

    def expanded(self) -> list[Changes]:
        """Return the changes of each point; in a grid, the last key varies fastest."""
        if self.points is not None:
            return self.points
        grid = self.grid or {}
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


@dataclass(frozen=True)
class Point:
    """One experiment of a sweep.

    Attributes:
        name: name of the experiment.
        changes: dotted key of params.yaml -> value, seeds included.
        title: the changes in words.
    """

    name: str
    changes: Changes
    title: str


def load_plan(path: str | Path) -> SweepPlan:
    """Read a plan.

    Raises:
        SweepError: the plan is wrong; the error names every problem.
        ParameterError: there is no such file, or it does not hold a YAML mapping.
    """
    if not Path(path).exists():
        raise ParameterError(
            "there is no such plan",
            where=path,
            found="no file of this name",
            fix="Name the YAML file of a plan; `reprise sweep --help` shows what one holds.",
        )
    raw = read_yaml(path)
    problems = problems_of(SweepPlan, raw, "")
    if problems:
        raise SweepError(
            f"there {'are' if len(problems) > 1 else 'is'} {len(problems)} problem{'s' if len(problems) > 1 else ''}",
            where=f"the plan {path}",
            found=listed(str(p).removeprefix(": ") for p in problems),
            fix="Correct the plan; one is, for example, {name: warm, grid: {train.warmup_epochs: [1, 2]}, seeds: [0]}.",
        )
    return SweepPlan.model_validate(raw)


def points_of(plan: SweepPlan, source: str = "") -> list[Point]:
    """Return the points of a plan.

    Args:
        plan: the plan.
        source: digest of the source of images if it is not the commit's: a name depends on it, on the plan's name and
            on the point's changes.
    """
    points, expanded = [], plan.expanded()
    for changes, title in zip(expanded, titles_of(expanded), strict=True):
        with_seeds = {**changes, **({"seeds": list(plan.seeds)} if plan.seeds else {})}
        digest = hashlib.sha256(f"{canonical(with_seeds)}{source}".encode("utf-8", "surrogatepass")).hexdigest()
        points.append(Point(f"{plan.name}-{digest[:10]}", with_seeds, title))
    return points


def titles_of(points: Sequence[Changes]) -> list[str]:
    """Describe each point by the changes that set it apart from the others, or by their keys if that is too long."""
    settings = [dict(leaf for key, value in each.items() for leaf in _leaves(key, value)) for each in points]
    shared = set.intersection(*(set(each.items()) for each in settings)) if len(points) > 1 else set()
    return [
        _title(dict(item for item in own.items() if item not in shared), each)
        for own, each in zip(settings, points, strict=True)
    ]


def _leaves(key: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the text of each single setting, except seeds, which are shown separately."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    elif key != "seeds":
        yield key, canonical(value)


def _title(settings: Mapping[str, str], changes: Changes) -> str:
    """Describe settings, with the same value in several blocks named once: methods.*.temperature=0.2."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for key, value in settings.items():
        first, _, rest = key.partition(".")
        alike.setdefault((first, rest.rpartition(".")[2] if "." in rest else key, value), []).append(key)
    text = ", ".join(
        f"{keys[0] if len(keys) == 1 else f'{first}.*.{last}'}={value}" for (first, last, value), keys in alike.items()
    )
    if len(text) > _MAX_TITLE_LENGTH or (changes and not text):
        within = [key for key in changes if any(own == key or own.startswith(f"{key}.") for own in settings)]
        text = f"changes of {', '.join(within or [key for key in changes if key != 'seeds'])}"
    return printable(text or "unchanged", _MAX_TITLE_LENGTH)


def base_index(plan: SweepPlan) -> int:
    """Return the position of the point that the others are compared with."""
    if plan.base is None:
        return 0
    return [canonical(changes) for changes in plan.expanded()].index(canonical(plan.base))


def canonical(value: object) -> str:
    """Return one text per value: keys are sorted, and 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def write_changes(path: Path, changes: Mapping[str, Any]) -> None:
    """Set dotted keys of a params.yaml and keep its comments.

    A key that a mapping lacks is added, so that a plan can set a parameter that params.yaml leaves at its default.
    The check of all parameters, which follows, refuses unknown ones.

    Raises:
        SweepError: a key leads nowhere, or YAML cannot hold a value exactly.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)  # as params.yaml is laid out
    with path.open(encoding="utf-8") as file:
        document = yaml.load(file)
    expected = read_yaml(path)
    for key, value in changes.items():
        _set(document, key, _quoted(value))
        _set(expected, key, value)
    text = io.StringIO()
    try:
        yaml.dump(document, text)
        with atomic_file(path, "w") as file:
            file.write(text.getvalue())
        written = read_yaml(path)
    except (YAMLError, UnicodeEncodeError, ParameterError) as error:
        raise _plan_error("YAML cannot hold these values", ", ".join(changes), error) from error
    if canonical(written) != canonical(expected):
        raise _plan_error("YAML cannot hold these values exactly", ", ".join(changes), "other values after writing")


def _quoted(value: Any) -> Any:
    """Quote text that ruamel would write without quotes although YAML forbids it: `?0`, `:0`, and other line ends."""
    if isinstance(value, Mapping):
        return {_quoted(key): _quoted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_quoted(item) for item in value]
    plain = not isinstance(value, str) or (value[:1].isalnum() and value.isprintable())
    return value if plain else DoubleQuotedScalarString(value)


def _set(document: Any, key: str, value: Any) -> None:
    *parents, last = _parts(key)
    block = document
    for part in parents:
        block = _inside(block, part, key)
    if isinstance(last, str) if isinstance(block, dict) else isinstance(block, list) and last in range(len(block)):
        block[last] = value
    else:
        raise _plan_error("params.yaml has no such place", key, f"no mapping or list that could hold '{last}'")


def _inside(block: Any, part: str | int, key: str) -> Any:
    if isinstance(block, dict) and isinstance(part, str) and part in block:
        return block[part]
    if isinstance(block, list) and isinstance(part, int) and part < len(block):
        return block[part]
    raise _plan_error("params.yaml has no such place", key, f"nothing at '{part}'")


def _parts(key: str) -> list[str | int]:
    return [int(match[1]) if match[1] else match[2] for match in _PART.finditer(key)]


def _check_value(value: object, so_far: int, depth: int = 0) -> int:
    """Refuse values that JSON cannot hold, and YAML aliases that multiply or form a circle.

    Args:
        value: the value to check.
        so_far: number of values that were counted before it.
        depth: nesting level of the value.

    Returns:
        The number of values counted so far, this one included.

    Raises:
        ValueError: the value is refused.
    """
    so_far += 1
    if so_far > _MAX_VALUES or depth > _MAX_DEPTH:
        raise ValueError(f"more than {_MAX_VALUES} values, or {_MAX_DEPTH} levels of them")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"a key must be text, not {printable(repr(key), 80)}")
            so_far = _check_value(item, so_far, depth + 1)
    elif isinstance(value, list):
        for item in value:
            so_far = _check_value(item, so_far, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a valid value for a parameter")
    elif value is not None and not isinstance(value, str | int | float):
        raise ValueError(
            f"a value must be a number, text, true, false, null, a list or a mapping, not {type(value).__name__}"
        )
    return so_far


def _plan_error(what: str, where: str, found: object) -> SweepError:
    return SweepError(what, where=where, found=found, fix="Correct the plan: keys and values are those of params.yaml.")
