"""`python -m stages.models`: check and convert the weights of the table `models`; copy to each run what it starts from.

data/models/<name> is a backbone's folder like that of a run, with an account of every tensor (mapping.json).
data/starts/<run> is what DVC sees a run depend on: new rows of `models` rerun no run, and other weights exactly those
that start from them or learn from them.
"""

from __future__ import annotations

import argparse

from reprise.artifacts.layout import MODELS, STARTS
from reprise.config.params import read_yaml
from reprise.config.tables import tables
from reprise.runtime.entry import run_stage


def main(argv: list[str]) -> None:
    """Parse, convert, copy."""
    argparse.ArgumentParser(prog="python -m stages.models", description=__doc__).parse_args(argv)
    rows = tables(read_yaml())

    from reprise.storage.atomic import atomic_directory
    from stages.models.starts import write_start

    with atomic_directory(MODELS) as models:
        foreign = [row for row in rows.models if row.model is None]
        if foreign:
            from stages.models.convert import convert  # imports torch, which takes seconds

            for model in foreign:
                (models / model.name).mkdir()
                convert(model, models / model.name)
        with atomic_directory(STARTS) as starts:
            for run in rows.runs:
                (starts / run.name).mkdir()
                write_start(run, models, starts / run.name)


if __name__ == "__main__":
    run_stage(main)
