"""`python -m stages.check`: name every problem in params.yaml, or write the fingerprints of all code to data/code.

It depends on all of params.yaml and all code, so DVC runs it after every edit. Its output decides which of the other
stages run. As a stage it looks at nothing else; `--machine` and `--data` are for the commands that prepare a run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reprise.artifacts.layout import CHECKED, CODE, PRESENT_CODE
from reprise.config.params import Problem, parameter_error, read_yaml
from reprise.runtime.entry import run_stage
from reprise.storage.atomic import atomic_directory, write_json
from reprise.storage.code.fingerprint import digest_of_project


def main(argv: list[str]) -> None:
    """Parse the command line, check unless the same was found valid before, and write."""
    parser = argparse.ArgumentParser(prog="python -m stages.check", description="Check every parameter in params.yaml.")
    parser.add_argument("--no-output", action="store_true", help="check, and leave data/ as it is")
    parser.add_argument("--machine", action="store_true", help="also warn of what does not fit this machine")
    parser.add_argument("--data", action="store_true", help="also hold the parameters against the images in data/")
    options = parser.parse_args(argv)
    digest, raw = digest_of_project(Path()), None
    found: list[Problem] = []
    if not PRESENT_CODE.is_dir() or _checked_before() != digest:
        from stages.check.code import write_fingerprints
        from stages.check.parameters import problems

        raw = read_yaml()
        found = problems(raw)
        if not found:
            CHECKED.unlink(missing_ok=True)  # until the fingerprints fit again
            with atomic_directory(PRESENT_CODE) as folder:
                write_fingerprints(raw, folder)
            write_json(CHECKED, {"digest": digest})
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


def _checked_before() -> str | None:
    """Return the digest of the project that was found valid last, or None."""
    try:
        return json.loads(CHECKED.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


if __name__ == "__main__":
    run_stage(main)
