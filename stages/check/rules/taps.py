"""Miners that read what a run has learned about clusters, and not its features, against the method of that run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from reprise.config.errors import RepriseError
from reprise.config.params import Problem
from reprise.config.plug_ins.registry import names
from reprise.config.tables import MineRow
from stages.check.plug_ins import plug_in_class
from stages.check.rows import well_formed


def tap_problems(raw: dict[str, Any], classes: Mapping[str, type]) -> Iterator[Problem]:
    """Find rows of `mines` whose miner reads a tap that its features do not have.

    Args:
        raw: the content of params.yaml.
        classes: the class of each row's plug-in, by "<table>.<name>".
    """
    for index, row in well_formed(raw, "mines", MineRow):
        tap = getattr(classes.get(f"mines.{row['name']}"), "tap", None)
        if tap is None:
            continue
        source, name = row["on"].split("/", 1)
        if option := getattr(classes[f"mines.{row['name']}"], "embedded_by", None):
            yield from _option_problems(raw, row, index, option)
            continue
        where, what = f"mines[{index}].on", f"the miner '{row['miner']}' reads what a run has learned about clusters"
        if source == "features":
            yield Problem(where, f"{what}, and features hold nothing of it", row["on"], _hint(tap))
            continue
        method_class: Any = classes.get(f"runs.{name}", classes.get(f"adapt.{name}"))
        if method_class is not None and tap not in method_class.taps:
            method = _method_of(raw, name)
            yield Problem(where, f"{what}, and the method '{method}' learns nothing of it", row["on"], _hint(tap))


def _option_problems(raw: dict[str, Any], row: dict[str, Any], index: int, option: str) -> Iterator[Problem]:
    """Hold a miner that reads a tap of any run against the option of `embed` that writes it."""
    block = raw.get("embed")
    if row["on"].startswith("features/"):
        rule = f"the miner '{row['miner']}' reads more of a run than its features"
        yield Problem(f"mines[{index}].on", rule, row["on"], " Write embed/<run>, for a row of `runs` or `adapt`.")
    elif isinstance(block, dict) and block.get(option) is not True:
        rule = f"the miner '{row['miner']}' reads what is embedded only where this is asked for"
        yield Problem(f"embed.{option}", rule, block.get(option, False), " Set it to true.")


def _method_of(raw: dict[str, Any], run: str) -> str:
    """Return the method of a run whose row is known to be right."""
    rows = [row for table in ("runs", "adapt") for row in raw.get(table) or [] if isinstance(row, dict)]
    return str(next(row["method"] for row in rows if row.get("name") == run))


def _hint(tap: str) -> str:
    """Name the methods whose runs have a tap; methods are imported for it, and only where something is wrong."""
    able = []
    for name in names("methods"):
        with suppress(RepriseError):  # a method that cannot be imported is reported with the row that names it
            method: Any = plug_in_class("methods", name)
            able += [name] if tap in method.taps else []
    return f" Write embed/<run> of a run with one of these methods: {', '.join(able) or 'none is known'}."
