"""Make probes of the blocks in params.yaml: each is found by its name and given typed parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from reprise.config.params import IntervalParams, parse
from reprise.config.plug_ins.registry import load_class
from stages.probe.encoder import RepresentationProbe
from stages.probe.probe import Probe

P = TypeVar("P", Probe, RepresentationProbe)


def load_suite(raw: Mapping[str, Any], section: str, suite: str) -> dict[str, Probe]:
    """Return the probes of a suite by name.

    Args:
        raw: the content of params.yaml.
        section: `probes` or `image_probes`; it holds one block per suite, and that one block per probe.
        suite: name of the suite, a folder under stages/probe/probes.

    Raises:
        ParameterError: a probe that does not exist, or parameters that it does not accept.
    """
    blocks = (raw.get(section) or {}).get(suite) or {}
    return load_probes(f"probes/{suite}", blocks, Probe, f"{section}.{suite}")  # type: ignore[type-abstract]


def load_probes(kind: str, blocks: Mapping[str, Any], base: type[P], where: str) -> dict[str, P]:
    """Return one probe per block.

    Args:
        kind: of plug-in ("probes/quality").
        blocks: name of the probe -> its parameters.
        base: the class that the suite's probes are subclasses of.
        where: dotted path of the blocks in params.yaml, for error messages.

    Raises:
        ParameterError: as `load_suite`.
    """
    probes = {}
    for name, block in blocks.items():
        probe_class = load_class(kind, name, base, f"{where}.{name}")
        probes[name] = probe_class(parse(probe_class.Params, block, f"{where}.{name}"))
    return probes


def read_confidence(raw: Mapping[str, Any]) -> float:
    """Return `summary.confidence`, which every interval has.

    The other keys of `summary` are left alone: they are not of the probes' parameters.
    """
    known = {name: value for name, value in (raw.get("summary") or {}).items() if name in IntervalParams.model_fields}
    return parse(IntervalParams, known, "summary").confidence
