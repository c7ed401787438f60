"""Which run needs which: labels that are mined on a run's embedding, and runs that go on from another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reprise.config.params import Problem


def circle_problems(runs: Mapping[str, Any], mines: Mapping[str, Any]) -> Iterator[Problem]:
    """Report each circle once.

    Args:
        runs: the rows of `runs` and `adapt` by name.
        mines: the rows of `mines` by name.
    """
    before = {name: _needed(row, runs, mines) for name, row in runs.items()}
    reported: set[str] = set()
    for name in before:
        path = _way_back(name, before)
        if path is None or name in reported:
            continue
        reported.update(path)
        circle = " <- ".join([*path, name])
        if any(runs[one]["start"] == f"runs/{other}" for one, other in zip(path, [*path[1:], name], strict=True)):
            yield Problem(f"adapt.{name}.from", "a run cannot go on from its own results", circle, " Break the circle.")
        else:
            rule = "a run cannot use labels that are mined on its own results"
            yield Problem(f"runs.{name}.labels", rule, circle, " Break the circle.")


def _needed(row: Mapping[str, Any], runs: Mapping[str, Any], mines: Mapping[str, Any]) -> list[str]:
    """Name the runs that must be there before this one."""
    on, start = mines.get(row["labels"], {}).get("on", ""), str(row["start"])
    found = [on.removeprefix("embed/")] if on.startswith("embed/") else []
    found += [start.removeprefix("runs/")] if start.startswith("runs/") else []
    return [name for name in found if name in runs]


def _way_back(name: str, before: Mapping[str, list[str]]) -> list[str] | None:
    """Find the shortest way from a run over runs that it needs back to itself; None where there is none."""
    ways, seen = [[name]], {name}
    while ways:
        way = ways.pop(0)
        for earlier in before[way[-1]]:
            if earlier == name:
                return way
            if earlier not in seen:
                seen.add(earlier)
                ways.append([*way, earlier])
    return None
