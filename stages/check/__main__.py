"""`python -m stages.check`: name every problem in params.yaml, or write the fingerprints of all code to data/code.

It depends on all of params.yaml and all code, so DVC runs it after every edit. Its output decides which of the other
stages run. As a stage it looks at nothing else; `--machine` and `--data` are for the commands that prepare a run.

It ends with status 2 where a parameter is wrong, which a script can tell from every other failure.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterable

from reprise.artifacts.layout import CODE, PRESENT_CODE
from reprise.config.errors import ParameterError
from reprise.config.params import Problem, parameter_error, read_yaml
from reprise.runtime.entry import run_stage
from reprise.storage.atomic import atomic_directory
from stages.check.judge import as_json, judge

WRONG = 2  # exit status


def main(argv: list[str]) -> None:
    """Check, and end with status 2 where a parameter is wrong."""
    try:
        check(argv)
    except ParameterError as error:
        if os.environ.get("REPRISE_TRACEBACK") == "1":
            raise
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(WRONG) from None


def check(argv: list[str]) -> None:
    """Parse the command line, check unless the same was found valid before, and write.

    Raises:
        ParameterError: a parameter is wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m stages.check", description="Check every parameter in params.yaml.")
    parser.add_argument("--no-output", action="store_true", help="check, and leave data/ as it is")
    parser.add_argument("--machine", action="store_true", help="also warn of what does not fit this machine")
    parser.add_argument("--data", action="store_true", help="also hold the parameters against the images in data/")
    parser.add_argument("--json", action="store_true", help="print what is wrong as JSON; the status is then 0")
    options = parser.parse_args(argv)
    raw, found = judge()
    warnings: list[Problem] = []
    if options.machine or options.data:
        from stages.check.rules.surroundings import look_around

        unfit, warnings = look_around(raw or read_yaml(), data=options.data, machine=options.machine)
        found += unfit
    if options.json:
        print(as_json(found, warnings))
        return
    _warn(warnings)
    if found:
        raise parameter_error(found)
    if not options.no_output:
        with atomic_directory(CODE) as folder:
            shutil.copytree(PRESENT_CODE, folder, dirs_exist_ok=True)


def _warn(warnings: Iterable[Problem]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(main)
