"""The budget of a run as its config.json states it, and in what two budgets differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Entries of config.json -> what they are called. They are equal in a fair comparison; crops and FLOPs are not among
# them, because they belong to the method.
SHARED = {
    "images_seen": "images seen",
    "image_share": "share of the training images",
    "epochs": "epochs",
    "backbone_parameters": "weights in the backbone",
    "started_from": "starting weights",
    "teacher": "teacher's weights",
    "precision": "precision",
    "device": "device",
}
_IMPLIED = {"image_share": 1.0, "teacher": "none"}  # entries that config.json states only where they have another value


def trains(budget: Mapping[str, Any]) -> bool:
    """Return whether a run takes steps: references that do not train have no budget to compare."""
    return bool(budget.get("steps"))


def entry(budget: Mapping[str, Any], name: str) -> Any:
    """Return an entry of config.json, or what its absence means; None where that is not known."""
    value = budget.get(name)
    return _IMPLIED.get(name) if value is None else value


def with_earlier(budget: Mapping[str, Any]) -> Mapping[str, Any]:
    """Count the images of the runs that a run goes on from among those that it has seen itself."""
    earlier = budget.get("before") or []
    seen = [step.get("images_seen") or 0 for step in (budget, *earlier)]
    return {**budget, "images_seen": sum(seen)} if earlier else budget


def labels_read(config: Mapping[str, Any]) -> list[str]:
    """Name the label sets that a run and the runs before it could read, each once; `none` is left out."""
    steps = [*(config.get("before") or []), config]
    return [name for name in dict.fromkeys(str(step.get("labels")) for step in steps) if name not in ("none", "None")]


def unequal(budgets: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the entries of `SHARED` in which runs that train differ.

    Args:
        budgets: entries of config.json. An entry that a file does not have is unknown, and differs from nothing.
    """
    trained = [with_earlier(budget) for budget in budgets if trains(budget)]
    values = {name: {str(entry(budget, name)) for budget in trained} - {"None"} for name in SHARED}
    return [name for name in SHARED if len(values[name]) > 1]


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Say in what two runs that train differ: ["images seen (3,000 and 300)"]."""
    first, second = with_earlier(first), with_earlier(second)
    return [
        f"{SHARED[name]} ({in_words(entry(first, name))} and {in_words(entry(second, name))})"
        for name in unequal([first, second])
    ]


def in_words(value: Any) -> str:
    """Write an entry of a budget; whole numbers with a comma every three digits."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
