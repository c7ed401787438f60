"""`python -m stages.probe.on_images --run NAME --seed N --suite NAME`: a suite of probes that train on a run's images.

The output is data/probe/NAME/N/images/SUITE. Such a suite takes minutes and is a stage of its own, so that neither it
nor its parameters make the cheap suites run again.
"""

from __future__ import annotations

import time

from reprise.artifacts import layout
from reprise.config.params import read_yaml
from reprise.config.shared_sections import cache_params
from reprise.config.tables import row, tables
from reprise.runtime.entry import arguments_of, run_stage


def main(argv: list[str]) -> None:
    """Run one suite of the table `image_suites` on the images of a run and its backbone."""
    arguments = arguments_of(argv, "stages.probe.on_images", __doc__, {"run": "runs", "suite": "image_suites"})
    raw = read_yaml()
    run = row(tables(raw).runs, arguments.run, "runs").name
    suite = row(tables(raw).image_suites, arguments.suite, "image_suites").name

    from stages.probe.load import load_suite, read_confidence

    confidence = read_confidence(raw)
    probes = load_suite(raw, "image_probes", suite)

    from reprise.artifacts.embeddings import FILE as EMBEDDINGS
    from reprise.artifacts.tables import leave_out_pandas
    from reprise.runtime.device import resolve_compute
    from reprise.storage.atomic import atomic_directory
    from reprise.storage.provenance import record
    from stages.probe.image_data import ImageData
    from stages.probe.suite import run_suite, write_suite

    leave_out_pandas()
    began = time.monotonic()
    where = f"{run}/{arguments.seed}"
    device = resolve_compute("auto", "fp32").device
    embeddings = layout.embedding(run, arguments.seed) / EMBEDDINGS
    data = ImageData(
        embeddings, layout.run(run, arguments.seed), confidence=confidence, device=device, cache=cache_params(raw)
    )
    result = run_suite(probes, data, f"probe_images {run} seed {arguments.seed} {suite}")
    with atomic_directory(layout.probes_on_images(run, arguments.seed) / suite) as folder:
        write_suite(result, folder)
    record(f"probe/{where}/images/{suite}", began, {"suites": {suite: result.origins}})


if __name__ == "__main__":
    run_stage(main)
