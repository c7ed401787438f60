"""`python -m stages.embed.on_shift --name NAME`: every run and seed on the images of a row of `shifts`.

The row itself follows on the command line, so that DVC runs the stage again when it changes; params.yaml is what is
read. One process embeds with all backbones, because each changed image is then made only once.
"""

from __future__ import annotations

import argparse

from reprise.artifacts.layout import shift_embeddings
from reprise.config.params import read_yaml, section
from reprise.config.shared_sections import cache_params
from reprise.config.tables import row, tables
from reprise.runtime.entry import run_stage
from stages.embed.params import EmbedParams


def main(argv: list[str]) -> None:
    """Embed the images of one row with the backbones of all runs."""
    parser = argparse.ArgumentParser(prog="python -m stages.embed.on_shift", description=__doc__)
    parser.add_argument("--name", required=True, help="a row of `shifts` in params.yaml")
    arguments, _ = parser.parse_known_args(argv)
    raw = read_yaml()
    rows = tables(raw)
    shift = row(rows.shifts, arguments.name, "shifts")
    params = section(raw, "embed", EmbedParams)

    from reprise.artifacts.tables.parquet import leave_out_pandas
    from reprise.storage.atomic import atomic_directory
    from stages.embed.shifted import embed_shift

    leave_out_pandas()
    runs = [(run.name, seed) for run in rows.trained for seed in rows.seeds]
    with atomic_directory(shift_embeddings(shift.name)) as folder:
        embed_shift(shift, runs, params, folder, cache_params(raw))


if __name__ == "__main__":
    run_stage(main)
