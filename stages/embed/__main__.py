"""`python -m stages.embed --run NAME --seed N`: data/runs/NAME/N and the shards become data/embed/NAME/N."""

from __future__ import annotations

from reprise.artifacts.layout import embedding
from reprise.config.params import read_yaml, section
from reprise.config.shared_sections import cache_params
from reprise.config.tables import row, tables
from reprise.runtime.entry import arguments_of, run_stage
from stages.embed.params import EmbedParams


def main(argv: list[str]) -> None:
    """Embed the images with the backbone of one run and seed."""
    arguments = arguments_of(argv, "stages.embed", __doc__, {"run": "runs"}, restart=True)
    raw = read_yaml()
    run = row(tables(raw).trained, arguments.run, "runs, adapt").name
    params = section(raw, "embed", EmbedParams)

    from reprise.artifacts.tables.parquet import leave_out_pandas
    from stages.embed.embedding import embed

    leave_out_pandas()
    out = embedding(run, arguments.seed)
    embed(run, arguments.seed, params, out, arguments.restart, cache_params(raw))


if __name__ == "__main__":
    run_stage(main)
