"""What a sweep tries: a plan in YAML, its points, their names, and exact values in params.yaml.

Values never pass a command line. `dvc exp run -S key=value` reads its text by Hydra's grammar, where commas make
choices and braces interpolate; here a value goes from the plan into params.yaml as data and is read back to
prove that it arrived.
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

from reprise.config.errors import ParameterError, SweepError, printable
from reprise.config.params import MetricName, Name, Seed, StrictModel, problems_of, read_yaml
from reprise.storage.atomic import atomic_file

LIMIT = 500  # points of one plan
_MOST_VALUES = 10_000  # numbers and words in a plan: YAML aliases can make a small file huge
_DEEPEST = 50
_LONGEST_TITLE = 160  # characters
_KEY = re.compile(r"[A-Za-z0-9_-]+(\[[0-9]{1,4}\])*(\.[A-Za-z0-9_-]+(\[[0-9]{1,4}\])*)*")
_PART = re.compile(r"\[([0-9]+)\]|([A-Za-z0-9_-]+)")
Changes = dict[str, Any]  # dotted key of params.yaml -> value


class SweepPlan(StrictModel):
    """Parameter changes to try, as in sweeps/*.yaml.

    name: names the experiments: <name>-<hash of the changes>. grid: dotted key of params.yaml -> values; every
    combination is a point. points: the changes of each point; {} is the folder as it is. seeds: of every point;
    none: those of params.yaml. parallel: points at once, after the first. metric: `<probe>.<metric>` on val that the
    verdicts are about; none: that of `summary.family`, on val. base: the changes of the point that all others are
    compared with; none: the first.
    """

    name: Name
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] | None = None
    points: Annotated[list[Changes], Field(min_length=1)] | None = None
    seeds: Annotated[tuple[Seed, ...], Field(max_length=50, strict=False)] = ()
    parallel: Annotated[int, Field(ge=1, le=64)] = 1
    metric: MetricName | None = None
    base: Changes | None = None

    @field_validator("grid", "points", "base", mode="before")
    @classmethod
    def _data_only(cls, value: object) -> object:
        _count(value, 0)
        return value

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed stands there twice")
        return seeds

    @model_validator(mode="after")
    def _one_way(self) -> SweepPlan:
        if (self.grid is None) == (self.points is None):
            raise ValueError("give either `grid` or `points`")
        if self.grid is not None and math.prod(map(len, self.grid.values())) > LIMIT:
            raise ValueError(f"the grid has more than {LIMIT} points")
        changes = self.expanded()
        if len(changes) > LIMIT:
            raise ValueError(f"there are more than {LIMIT} points")
        for key in sorted({key for each in changes for key in each}):
            if not _KEY.fullmatch(key):
                raise ValueError(f"'{printable(key, 80)}' is no key of params.yaml; write methods.simclr.temperature")
            if key == "seeds" and self.seeds:
                raise ValueError("seeds stand in `seeds` and among the parameters")
        for each in changes:
            clash = next(
                (f"{a} and {b}" for a, b in itertools.permutations(each, 2) if b.startswith((a + ".", a + "["))), ""
            )
            if clash:
                raise ValueError(f"one point sets both {clash}")
        if len({canonical(each) for each in changes}) < len(changes):
            raise ValueError("two points are the same")
        if self.base is not None and canonical(self.base) not in map(canonical, changes):
            raise ValueError("`base` is none of the points")
        return self

    def expanded(self) -> list[Changes]:
        """The changes of each point; of a grid, the last key varies fastest."""
        if self.points is not None:
            return self.points
        grid = self.grid or {}
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


@dataclass(frozen=True)
class Point:
    """One experiment: its name, what it changes in params.yaml (seeds included), and that in words."""

    name: str
    changes: Changes
    title: str


def load_plan(path: str | Path) -> SweepPlan:
    """Read a plan.

    Raises:
        SweepError: all that is wrong with it. ParameterError: no YAML mapping.
    """
    raw = read_yaml(path)
    problems = problems_of(SweepPlan, raw, "")
    if problems:
        raise SweepError(
            f"{len(problems)} thing{'s are' if len(problems) > 1 else ' is'} wrong in this plan",
            where=path,
            found="\n  " + "\n  ".join(str(p).removeprefix(": ") for p in problems) + "\n",
            fix="Correct it; docs/how-to/sweeps.md shows plans.",
        )
    return SweepPlan.model_validate(raw)


def points_of(plan: SweepPlan, also: str = "") -> list[Point]:
    """The points of a plan; a name depends on the plan's name, the point's changes, and `also`."""
    found, points = [], plan.expanded()
    for changes, title in zip(points, titles_of(points), strict=True):
        every = {**changes, **({"seeds": list(plan.seeds)} if plan.seeds else {})}
        digest = hashlib.sha256(f"{canonical(every)}{also}".encode("utf-8", "surrogatepass")).hexdigest()
        found.append(Point(f"{plan.name}-{digest[:10]}", every, title))
    return found


def titles_of(points: Sequence[Changes]) -> list[str]:
    """Each point's changes in words: what sets it apart from the others; only its keys, where that is long."""
    settings = [dict(leaf for key, value in each.items() for leaf in _leaves(key, value)) for each in points]
    shared = set.intersection(*(set(each.items()) for each in settings)) if len(points) > 1 else set()
    return [
        _title(dict(item for item in own.items() if item not in shared), each)
        for own, each in zip(settings, points, strict=True)
    ]


def _leaves(key: str, value: object) -> Iterator[tuple[str, str]]:
    """Dotted key and text of each single setting; seeds are left out, which stand beside."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    elif key != "seeds":
        yield key, canonical(value)


def _title(settings: Mapping[str, str], changes: Changes) -> str:
    """One value at one place of several blocks is said once: methods.*.temperature=0.2."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for key, value in settings.items():
        first, _, rest = key.partition(".")
        alike.setdefault((first, rest.rpartition(".")[2] if "." in rest else key, value), []).append(key)
    shown = [
        f"{keys[0] if len(keys) == 1 else f'{first}.*.{last}'}={value}" for (first, last, value), keys in alike.items()
    ]
    text = ", ".join(shown)
    if len(text) > _LONGEST_TITLE or (changes and not text):
        within = [key for key in changes if any(own == key or own.startswith(f"{key}.") for own in settings)]
        text = f"changes of {', '.join(within or [key for key in changes if key != 'seeds'])}"
    return printable(text or "as it is", _LONGEST_TITLE)


def base_of(plan: SweepPlan) -> int:
    """Position of the point that the others are compared with."""
    if plan.base is None:
        return 0
    return [canonical(changes) for changes in plan.expanded()].index(canonical(plan.base))


def canonical(value: object) -> str:
    """One text for one value: keys sorted, 1 and 1.0 and true told apart."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def write_changes(path: Path, changes: Mapping[str, Any]) -> None:
    """Set dotted keys of a params.yaml, comments kept.

    A mapping gets keys that it lacks, so that a parameter may be set that params.yaml leaves to its default;
    the check that follows refuses unknown ones.

    Raises:
        SweepError: a key leads nowhere, or YAML cannot hold a value exactly.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)  # as params.yaml is laid out
    with path.open(encoding="utf-8") as file:
        document = yaml.load(file)
    wanted = read_yaml(path)
    for key, value in changes.items():
        _set(document, key, value)
        _set(wanted, key, value)
    text = io.StringIO()
    try:
        yaml.dump(document, text)
        with atomic_file(path, "w") as file:
            file.write(text.getvalue())
        found = read_yaml(path)
    except (YAMLError, UnicodeEncodeError, ParameterError) as error:
        raise _refused("YAML cannot hold these values", ", ".join(changes), error) from error
    if canonical(found) != canonical(wanted):
        raise _refused("YAML cannot hold these values exactly", ", ".join(changes), "other values after writing")


def _set(document: Any, key: str, value: Any) -> None:
    *parents, last = _parts(key)
    block = document
    for part in parents:
        block = _inside(block, part, key)
    if isinstance(last, str) if isinstance(block, dict) else isinstance(block, list) and last in range(len(block)):
        block[last] = value
    else:
        raise _refused("params.yaml has no such place", key, f"no mapping or list that could hold '{last}'")


def _inside(block: Any, part: str | int, key: str) -> Any:
    if isinstance(block, dict) and isinstance(part, str) and part in block:
        return block[part]
    if isinstance(block, list) and isinstance(part, int) and part < len(block):
        return block[part]
    raise _refused("params.yaml has no such place", key, f"nothing at '{part}'")


def _parts(key: str) -> list[str | int]:
    return [int(found[1]) if found[1] else found[2] for found in _PART.finditer(key)]


def _count(value: object, so_far: int, depth: int = 0) -> int:
    """Refuse what JSON does not know, and aliases that multiply or never end."""
    so_far += 1
    if so_far > _MOST_VALUES or depth > _DEEPEST:
        raise ValueError(f"more than {_MOST_VALUES} values, or {_DEEPEST} levels of them")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"a key must be text, not {printable(repr(key), 80)}")
            so_far = _count(item, so_far, depth + 1)
    elif isinstance(value, list):
        for item in value:
            so_far = _count(item, so_far, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no value for a parameter")
    elif value is not None and not isinstance(value, str | int | float):
        raise ValueError(
            f"a value must be a number, text, true, false, null, a list or a mapping, not {type(value).__name__}"
        )
    return so_far


def _refused(what: str, where: str, found: object) -> SweepError:
    return SweepError(what, where=where, found=found, fix="Correct the plan: keys and values are those of params.yaml.")
