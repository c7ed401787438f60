"""`python -m stages.embed --run NAME --seed N`: data/runs/NAME/N and the shards become data/embed/NAME/N."""

from __future__ import annotations

import argparse
from pathlib import Path

from stages.contracts.params import read_yaml, row, section, tables
from stages.embed.params import EmbedParams
from stages.runtime.entry import run_stage


def main(argv: list[str]) -> None:
    """Parse, type the parameters, embed."""
    parser = argparse.ArgumentParser(prog="python -m stages.embed", description=__doc__)
    parser.add_argument("--run", required=True, help="a row of `runs` in params.yaml")
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--restart", action="store_true", help="discard what an interrupted run left")
    arguments = parser.parse_args(argv)
    raw = read_yaml()
    run = row(tables(raw).runs, arguments.run, "runs").name
    params = section(raw, "embed", EmbedParams)

    from stages.embed.embedding import embed

    out = Path("data/embed") / run / str(arguments.seed)
    embed(run, arguments.seed, params, out, arguments.restart)


if __name__ == "__main__":
    run_stage(main)
