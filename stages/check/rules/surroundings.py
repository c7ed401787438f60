"""What params.yaml is held against besides itself: the images that were taken in, and this machine.

The stage `check` never looks here: its output is a pure function of parameters and code.
"""

from __future__ import annotations

from typing import Any

from reprise.config.errors import ManifestError
from reprise.config.params import Problem
from stages.check.rules.data import Facts, data_problems, data_warnings, read_facts
from stages.check.rules.machine import machine_warnings
from stages.check.rules.relations import relation_warnings


def look_around(raw: dict[str, Any], *, data: bool, machine: bool) -> tuple[list[Problem], list[Problem]]:
    """Find what does not fit the images or this machine.

    Args:
        raw: the content of params.yaml; what is wrong in single values is reported elsewhere.
        data: whether data/ingest was made from the present source, so that it may be looked at.
        machine: whether to look at this machine, and at values that work together otherwise than their words say.

    Returns:
        Problems, with which a stage would refuse to start; and warnings.
    """
    facts: Facts | None = None
    if data:
        try:
            facts = read_facts()
        except ManifestError:
            facts = None  # ingest writes it again
    found, warnings = [], []
    if machine:
        warnings += [*relation_warnings(raw), *machine_warnings(raw, facts.train if facts else None)]
    if facts:
        found += data_problems(raw, facts)
        warnings += data_warnings(raw, facts)
    return found, warnings
