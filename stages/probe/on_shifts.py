"""`python -m stages.probe.on_shifts --suite NAME`: a suite of probes on shifted images, for every run and seed.

One process measures all runs; what was measured before and did not change is not measured again.
"""

from __future__ import annotations

import argparse
import time

from reprise.artifacts import layout
from reprise.config.params import read_yaml
from reprise.config.tables import row, tables
from reprise.runtime.entry import run_stage


def main(argv: list[str]) -> None:
    """Run one suite of the table `shift_suites`."""
    parser = argparse.ArgumentParser(prog="python -m stages.probe.on_shifts", description=__doc__)
    parser.add_argument("--suite", required=True, help="a row of `shift_suites` in params.yaml")
    arguments = parser.parse_args(argv)
    raw = read_yaml()
    rows = tables(raw)
    suite = row(rows.shift_suites, arguments.suite, "shift_suites").name

    from stages.probe.running.load import load_suite, read_confidence

    confidence = read_confidence(raw)
    probes = load_suite(raw, "shift_probes", suite)

    from reprise.artifacts.embeddings import FILE as EMBEDDINGS
    from reprise.artifacts.shifts import shifted_files
    from reprise.artifacts.tables.parquet import leave_out_pandas
    from reprise.runtime.device import resolve_compute
    from reprise.storage.atomic import atomic_directory
    from reprise.storage.provenance import record
    from stages.probe.data import ProbeData
    from stages.probe.running.suite import run_suite, write_suite

    leave_out_pandas()
    began = time.monotonic()
    device = resolve_compute("auto", "fp32").device
    origins = {}
    with atomic_directory(layout.probes_on_shifts(suite)) as folder:
        for run, seed in [(run.name, seed) for run in rows.trained for seed in rows.seeds]:
            path = layout.embedding(run, seed) / EMBEDDINGS
            files = shifted_files(rows.shifts, run, seed)
            data = ProbeData(path, confidence=confidence, device=device, shifts=files)
            result = run_suite(probes, data, f"probe {run} seed {seed} {suite}")
            write_suite(result, folder / run / str(seed))
            origins[f"{run} {seed}"] = result.origins
    record(f"probe_shifts/{suite}", began, {"probes": origins})


if __name__ == "__main__":
    run_stage(main)
