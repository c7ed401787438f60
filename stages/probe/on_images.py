"""`python -m stages.probe.on_images --run NAME --seed N --group NAME`: a group of probes that train on a run's images.

The output is data/probe/NAME/N/images/GROUP. A row of the table `checks` asks for it. Such a group takes minutes and is
a stage of its own, so that neither it nor its parameters make the cheap suites run again.
"""

from __future__ import annotations

import time

from reprise.artifacts import layout
from reprise.config.params import Problem, parameter_error, read_yaml
from reprise.config.shared_sections import cache_params
from reprise.config.tables import row, tables
from reprise.runtime.entry import arguments_of, run_stage


def main(argv: list[str]) -> None:
    """Run the group of one row of the table `checks` on the images and the backbone of its run."""
    arguments = arguments_of(argv, "stages.probe.on_images", __doc__, {"run": "runs", "group": "checks"})
    raw = read_yaml()
    run = row(tables(raw).trained, arguments.run, "runs, adapt").name
    suite = str(arguments.group)
    if suite not in [check.group for check in tables(raw).checks]:
        raise parameter_error(
            [Problem("checks", "no row names this group", suite, " Add a row, with its run and seed.")]
        )

    from stages.probe.running.load import load_suite, read_confidence

    confidence = read_confidence(raw)
    probes = load_suite(raw, "image_probes", suite)

    from reprise.artifacts.embeddings import FILE as EMBEDDINGS
    from reprise.artifacts.tables.parquet import leave_out_pandas
    from reprise.runtime.device import resolve_compute
    from reprise.storage.atomic import atomic_directory
    from reprise.storage.provenance import record
    from stages.probe.images.image_data import ImageData
    from stages.probe.running.suite import run_suite, write_suite

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
