"""The class of every plug-in, and the typed parameters that it declares."""

from __future__ import annotations

import importlib

from reprise.config.params import StrictModel
from reprise.config.registry import KINDS, load_class, suites

COMPARISON = "between"  # the suite of probes that compare encoders; all others measure one encoder

# Kind of plug-in -> module and name of its base class. Sections of the report are modules without a class.
_BASES = {
    "sources": ("stages.ingest.source", "Source"),
    "extractors": ("stages.mine.extractor", "Extractor"),
    "miners": ("stages.mine.miner", "Miner"),
    "methods": ("stages.pretrain.method", "Method"),
    "backbones": ("reprise.networks.backbone", "Backbone"),
    "schedules": ("reprise.training.schedule", "Schedule"),
    "probes": ("stages.probe.probe", "Probe"),
    f"probes/{COMPARISON}": ("stages.probe.side", "BetweenProbe"),
}


def kinds() -> list[str]:
    """List all kinds of plug-ins, each suite of probes by itself ("probes/quality")."""
    return [kind for known in KINDS for kind in ([f"probes/{s}" for s in suites()] if known == "probes" else [known])]


def base_class(kind: str) -> type | None:
    """Import the base class of a kind of plug-in; None for sections of the report, which have none."""
    place = _BASES.get(kind) or _BASES.get(kind.partition("/")[0])
    return getattr(importlib.import_module(place[0]), place[1]) if place else None


def params_class(kind: str, name: str) -> type[StrictModel] | None:
    """Import a plug-in and return the class of its parameters; None for a section of the report.

    Raises:
        ParameterError: no plug-in has that name, or its file cannot be imported.
    """
    base = base_class(kind)
    return load_class(kind, name, base, kind).Params if base else None  # type: ignore[attr-defined]
