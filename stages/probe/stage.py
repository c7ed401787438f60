"""What both stages of probes do: parameters typed before anything slow, the group run, its provenance written."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from reprise.config.params import IntervalParams, parse, read_yaml, row, tables
from reprise.runtime.entry import arguments_of

if TYPE_CHECKING:
    from stages.probe.data import ProbeData


def probe(
    argv: list[str], module: str, description: str | None, table: str, opened: Callable[[str, float, str], ProbeData]
) -> None:
    """Run the group of probes that a command line names, into data/probe/RUN/SEED/GROUP.

    Args:
        module: "stages.probe". description: its docstring. table: of params.yaml, whose rows are its groups.
        opened: what probes are given, from "RUN/SEED", the confidence of intervals and the device.

    Raises:
        RepriseError: parameters or inputs that cannot be used.
    """
    arguments = arguments_of(argv, module, description, {"run": "runs", "group": table})
    raw = read_yaml()
    run = row(tables(raw).runs, arguments.run, "runs").name
    group = row(getattr(tables(raw), table), arguments.group, table).name
    shared = {name: value for name, value in (raw.get("summary") or {}).items() if name in IntervalParams.model_fields}
    confidence = parse(IntervalParams, shared, "summary").confidence

    from reprise.config.registry import load_class
    from reprise.runtime.device import resolve_compute
    from reprise.storage.provenance import record
    from stages.probe.group import run_group
    from stages.probe.probe import Probe

    began = time.monotonic()
    probes = {}
    for name, block in ((raw.get("probes") or {}).get(group) or {}).items():
        kind = load_class(f"probes/{group}", name, Probe, f"probes.{group}.{name}")  # type: ignore[type-abstract]
        probes[name] = kind(parse(kind.Params, block, f"probes.{group}.{name}"))
    where = f"{run}/{arguments.seed}"
    device = resolve_compute("auto", "fp32").device  # figures of two devices differ in the last bits
    data = opened(where, confidence, device)
    ran = run_group(probes, data, Path("data/probe") / where / group, f"probe {run} seed {arguments.seed} {group}")
    record(f"probe/{where}/{group}", began, {"ran": ran, "stored": sorted(set(probes) - set(ran))})
