"""`python -m stages.check`: name every problem in params.yaml, or write the fingerprints of all code to data/code.

It depends on all of params.yaml and all code, so DVC runs it after every edit. Its output decides which of the other
stages run. As a stage it looks at nothing else; `--machine` and `--data` are for the commands that prepare a run.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable
from typing import Any

from reprise.artifacts.layout import CODE, PRESENT_CODE
from reprise.config.params import parameter_error, read_yaml
from reprise.runtime.entry import run_stage
from reprise.storage.atomic import atomic_directory
from stages.check.judge import judge


def main(argv: list[str]) -> None:
    """Parse the command line, check unless the same was found valid before, and write."""
    parser = argparse.ArgumentParser(prog="python -m stages.check", description="Check every parameter in params.yaml.")
    parser.add_argument("--no-output", action="store_true", help="check, and leave data/ as it is")
    parser.add_argument("--machine", action="store_true", help="also warn of what does not fit this machine")
    parser.add_argument("--data", action="store_true", help="also hold the parameters against the images in data/")
    options = parser.parse_args(argv)
    raw, found = judge()
    if options.machine or options.data:
        from stages.check.rules.surroundings import look_around

        unfit, warnings = look_around(raw or read_yaml(), data=options.data, machine=options.machine)
        found += unfit
        _warn(warnings)
    if found:
        raise parameter_error(found)
    if not options.no_output:
        with atomic_directory(CODE) as folder:
            shutil.copytree(PRESENT_CODE, folder, dirs_exist_ok=True)


def _warn(warnings: Iterable[Any]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(main)
