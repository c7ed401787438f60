"""`python -m stages.probe.between`: all runs and seeds against each other, into data/between.

`--side NAME=FILE`, once or more, compares embedding files instead, into `--out`: `reprise between` does that with
files of other revisions.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from reprise.config.errors import ParameterError
from reprise.config.params import parse, read_yaml, section, tables
from reprise.runtime.entry import run_stage
from stages.probe.params import SECTION, BetweenParams

OUTPUT = Path("data/between")


def main(argv: list[str]) -> None:
    """Parse, type the parameters of every probe, compare."""
    parser = argparse.ArgumentParser(prog="python -m stages.probe.between", description=__doc__)
    parser.add_argument("--side", action="append", default=[], metavar="NAME=FILE", help="an embeddings file")
    parser.add_argument("--out", type=Path, default=OUTPUT)
    arguments = parser.parse_args(argv)
    raw = read_yaml()
    params = section(raw, SECTION, BetweenParams)
    rows = tables(raw)

    from reprise.config.registry import load_class
    from reprise.storage.provenance import record
    from stages.probe.all_pairs import compare_all, read_sides
    from stages.probe.side import BetweenProbe

    began = time.monotonic()
    probes = {}
    for name, block in params.probes.items():
        kind = load_class("probes/between", name, BetweenProbe, f"between.probes.{name}")  # type: ignore[type-abstract]
        probes[name] = kind(parse(kind.Params, block, f"between.probes.{name}"))
    named: dict[str, tuple[str, int, Path]] = {}
    for side in arguments.side:
        name, _, file = side.partition("=")
        if not name or not file:
            raise ParameterError("a side is NAME=FILE", where="--side", found=side, fix="Name it and give its file.")
        named[name] = (name, 0, Path(file))
    for run in rows.runs if not named else ():
        for seed in rows.seeds:
            name = run.name if len(rows.seeds) == 1 else f"{run.name} {seed}"
            named[name] = (run.name, seed, Path("data/embed") / run.name / str(seed) / "embeddings.parquet")
    ran = compare_all(probes, read_sides(named, params.rows), arguments.out)
    if not arguments.side:
        record("between", began, {"ran": ran, "sides": len(named)})


if __name__ == "__main__":
    run_stage(main)
