"""`python -m stages.probe --run NAME --seed N --group NAME`: a group of probes, into data/probe/NAME/N/GROUP."""

from __future__ import annotations

import time
from pathlib import Path

from stages.contracts.params import IntervalParams, parse, read_yaml, row, tables
from stages.runtime.entry import arguments_of, run_stage


def main(argv: list[str]) -> None:
    """Parse, type the parameters of every probe, run the group."""
    arguments = arguments_of(argv, "stages.probe", __doc__, {"run": "runs", "group": "groups"})
    raw = read_yaml()
    run = row(tables(raw).runs, arguments.run, "runs").name
    group = row(tables(raw).groups, arguments.group, "groups").name
    shared = {name: value for name, value in (raw.get("summary") or {}).items() if name in IntervalParams.model_fields}
    confidence = parse(IntervalParams, shared, "summary").confidence

    from stages.contracts.provenance import record
    from stages.contracts.registry import load_class
    from stages.probe.data import ProbeData
    from stages.probe.group import run_group
    from stages.probe.probe import Probe
    from stages.runtime.device import resolve_compute

    began = time.monotonic()
    probes = {}
    for name, block in ((raw.get("probes") or {}).get(group) or {}).items():
        kind = load_class(f"stages.probe.probes.{group}", name, Probe, f"probes.{group}.{name}")  # type: ignore[type-abstract]
        probes[name] = kind(parse(kind.Params, block, f"probes.{group}.{name}"))
    where = f"{run}/{arguments.seed}"
    device = resolve_compute("auto", "fp32").device  # figures of two devices differ in the last bits
    data = ProbeData(Path("data/embed") / where / "embeddings.parquet", confidence=confidence, device=device)
    output = Path("data/probe") / where / group
    ran = run_group(probes, data, output, f"probe {run} seed {arguments.seed} {group}")
    record(f"probe/{where}/{group}", began, {"ran": ran, "stored": sorted(set(probes) - set(ran))})


if __name__ == "__main__":
    run_stage(main)
