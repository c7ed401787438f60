"""`python -m stages.probe.representations`: compare all runs and seeds with each other, into data/representations.

`--encoder NAME=FILE`, once or more, compares these embedding files instead, into `--out`. The command
`reprise compare-representations` uses it for the embeddings of other revisions.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from reprise.artifacts import layout
from reprise.config.errors import ParameterError
from reprise.config.params import read_yaml, section
from reprise.config.tables import Tables, tables
from reprise.runtime.entry import run_stage
from stages.probe.params import SECTION, RepresentationsParams

OUTPUT = layout.REPRESENTATIONS


def main(argv: list[str]) -> None:
    """Check the parameters of every probe, then compare."""
    parser = argparse.ArgumentParser(prog="python -m stages.probe.representations", description=__doc__)
    parser.add_argument("--encoder", action="append", default=[], metavar="NAME=FILE", help="an embeddings file")
    parser.add_argument("--out", type=Path, default=OUTPUT, help="the folder to write")
    arguments = parser.parse_args(argv)
    raw = read_yaml()
    params = section(raw, SECTION, RepresentationsParams)
    files = _named_files(arguments.encoder) if arguments.encoder else _files_of_runs(tables(raw))

    from reprise.artifacts.tables.parquet import leave_out_pandas
    from reprise.storage.provenance import record
    from stages.probe.encoder import RepresentationProbe
    from stages.probe.running.all_pairs import compare_all, read_encoders
    from stages.probe.running.load import load_probes

    leave_out_pandas()
    began = time.monotonic()
    probes = load_probes("probes/representations", params.probes, RepresentationProbe, f"{SECTION}.probes")  # type: ignore[type-abstract]
    ran = compare_all(probes, read_encoders(files, params.rows), arguments.out)
    if not arguments.encoder:
        record("representations", began, {"ran": ran, "encoders": len(files)})


def _named_files(options: list[str]) -> dict[str, tuple[str, int, Path]]:
    """Name -> (run, seed, file) of every `NAME=FILE`; the name stands for the run, and the seed is 0."""
    files = {}
    for option in options:
        name, _, file = option.partition("=")
        if not name or not file:
            raise ParameterError(
                "an encoder is given as NAME=FILE", where="--encoder", found=option, fix="Name it and give its file."
            )
        files[name] = (name, 0, Path(file))
    return files


def _files_of_runs(rows: Tables) -> dict[str, tuple[str, int, Path]]:
    """Name -> (run, seed, file) of every run and seed; the name shows the seed where there are several."""
    return {
        run.name if len(rows.seeds) == 1 else f"{run.name} {seed}": (
            run.name,
            seed,
            layout.embedding(run.name, seed) / "embeddings.parquet",
        )
        for run in rows.trained
        for seed in rows.seeds
    }


if __name__ == "__main__":
    run_stage(main)
