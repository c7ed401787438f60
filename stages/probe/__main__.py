"""`python -m stages.probe --run NAME --seed N`: the suites that need features only, into data/probe/NAME/N/features."""

from __future__ import annotations

import time

from reprise.artifacts import layout
from reprise.config.params import read_yaml
from reprise.config.tables import row, tables
from reprise.runtime.entry import arguments_of, run_stage


def main(argv: list[str]) -> None:
    """Run all suites of the table `suites` in one process, which reads the features once."""
    arguments = arguments_of(argv, "stages.probe", __doc__, {"run": "runs"})
    raw = read_yaml()
    run = row(tables(raw).trained, arguments.run, "runs, adapt").name

    from stages.probe.running.load import load_suite, read_confidence

    confidence = read_confidence(raw)
    suites = {suite.name: load_suite(raw, "probes", suite.name) for suite in tables(raw).suites}

    from reprise.artifacts.embeddings import FILE as EMBEDDINGS
    from reprise.artifacts.tables.parquet import leave_out_pandas
    from reprise.runtime.device import resolve_compute
    from reprise.storage.atomic import atomic_directory
    from reprise.storage.provenance import record
    from stages.probe.data import ProbeData
    from stages.probe.running.suite import run_suite, write_suite

    leave_out_pandas()
    began = time.monotonic()
    where = f"{run}/{arguments.seed}"
    device = resolve_compute("auto", "fp32").device  # figures of two devices differ in the last bits
    data = ProbeData(layout.embedding(run, arguments.seed) / EMBEDDINGS, confidence=confidence, device=device)
    results = {name: run_suite(suites[name], data, f"probe {run} seed {arguments.seed} {name}") for name in suites}
    with atomic_directory(layout.probes_on_features(run, arguments.seed)) as folder:
        for name, result in results.items():
            write_suite(result, folder / name)
    record(f"probe/{where}/features", began, {"suites": {name: result.origins for name, result in results.items()}})


if __name__ == "__main__":
    run_stage(main)
