"""The class of every plug-in, and the typed parameters that it declares."""

from __future__ import annotations

import importlib

from reprise.config.params import StrictModel
from reprise.config.plug_ins.registry import load_class

COMPARISON = "representations"  # the suite of probes that compare encoders; all others measure one encoder
ON_IMAGES = ("dense", "finetune", "words")  # folders of probes that read images: groups of checks, not of suites
ON_SHIFTS = ("shift",)  # suites of probes on shifted images: rows of shift_suites

# Kind of plug-in -> module and name of its base class. Sections of the report are modules without a class.
_BASES = {
    "sources": ("stages.ingest.source", "Source"),
    "extractors": ("stages.mine.extractor", "Extractor"),
    "miners": ("stages.mine.miner", "Miner"),
    "models": ("reprise.training.model", "Model"),
    "methods": ("stages.pretrain.method", "Method"),
    "changes": ("reprise.training.change", "Change"),
    "watches": ("reprise.training.watch", "Watch"),
    "backbones": ("reprise.networks.backbone", "Backbone"),
    "schedules": ("reprise.training.schedule", "Schedule"),
    "shifts": ("stages.embed.corruption", "Corruption"),
    "probes": ("stages.probe.probe", "Probe"),
    f"probes/{COMPARISON}": ("stages.probe.encoder", "RepresentationProbe"),
}


def table_of_suite(suite: str) -> str:
    """Name the table of params.yaml to which a suite of probes belongs."""
    return "checks" if suite in ON_IMAGES else "shift_suites" if suite in ON_SHIFTS else "suites"


def base_class(kind: str) -> type | None:
    """Import the base class of a kind of plug-in; None for sections of the report, which have none."""
    place = _BASES.get(kind) or _BASES.get(kind.partition("/")[0])
    return getattr(importlib.import_module(place[0]), place[1]) if place else None


def plug_in_class(kind: str, name: str, where: str = "") -> type | None:
    """Import a plug-in and return its class; None for a section of the report.

    Args:
        kind: a kind of plug-in.
        name: the plug-in's name.
        where: the parameter that gave the name, for the message.

    Raises:
        ParameterError: no plug-in has that name, or its file cannot be imported.
    """
    base = base_class(kind)
    return load_class(kind, name, base, where or kind) if base else None


def params_class(kind: str, name: str) -> type[StrictModel] | None:
    """Import a plug-in and return the class of its parameters; see `plug_in_class`."""
    return getattr(plug_in_class(kind, name), "Params", None)
