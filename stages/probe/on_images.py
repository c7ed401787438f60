"""`python -m stages.probe.on_images --run NAME --seed N --group NAME`: probes that train on the images of a run."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from stages.contracts.params import IntervalParams, parse, read_yaml, row, tables
from stages.runtime.entry import run_stage


def main(argv: list[str]) -> None:
    """Parse, type the parameters of every probe, run the group."""
    parser = argparse.ArgumentParser(prog="python -m stages.probe.on_images", description=__doc__)
    parser.add_argument("--run", required=True, help="a row of `runs` in params.yaml")
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--group", required=True, help="a row of `image_groups` in params.yaml")
    arguments = parser.parse_args(argv)
    raw = read_yaml()
    run = row(tables(raw).runs, arguments.run, "runs").name
    group = row(tables(raw).image_groups, arguments.group, "image_groups").name
    shared = {name: value for name, value in (raw.get("summary") or {}).items() if name in IntervalParams.model_fields}
    confidence = parse(IntervalParams, shared, "summary").confidence

    from stages.contracts.provenance import record
    from stages.contracts.registry import load_class
    from stages.probe.group import run_group
    from stages.probe.image_data import ImageData
    from stages.probe.probe import Probe
    from stages.runtime.device import resolve_compute

    began = time.monotonic()
    probes = {}
    for name, block in ((raw.get("probes") or {}).get(group) or {}).items():
        kind = load_class(f"stages.probe.probes.{group}", name, Probe, f"probes.{group}.{name}")  # type: ignore[type-abstract]
        probes[name] = kind(parse(kind.Params, block, f"probes.{group}.{name}"))
    where = f"{run}/{arguments.seed}"
    data = ImageData(
        Path("data/embed") / where / "embeddings.parquet",
        Path("data/runs") / where,
        confidence=confidence,
        device=resolve_compute("auto", "fp32").device,
    )
    output = Path("data/probe") / where / group
    ran = run_group(probes, data, output, f"probe {run} seed {arguments.seed} {group}")
    record(f"probe/{where}/{group}", began, {"ran": ran, "stored": sorted(set(probes) - set(ran))})


if __name__ == "__main__":
    run_stage(main)
