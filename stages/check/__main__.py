"""`python -m stages.check`: params.yaml -> data/check/parameters.json, or every problem at once.

The output is constant, so that a changed parameter makes this stage run and nothing else because of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reprise.config.params import parameter_error, read_yaml
from reprise.runtime.entry import run_stage
from reprise.storage.atomic import write_json

OUTPUT = Path("data/check/parameters.json")


def main(argv: list[str]) -> None:
    """Command line: `--no-output` only looks."""
    parser = argparse.ArgumentParser(prog="python -m stages.check", description="Check every parameter in params.yaml.")
    parser.add_argument("--no-output", action="store_true", help="write nothing")
    options = parser.parse_args(argv)
    raw = read_yaml()

    from stages.check.parameters import problems

    found = problems(raw)
    if found:
        raise parameter_error(found)
    if not options.no_output:
        write_json(OUTPUT, {"parameters": "valid"})


if __name__ == "__main__":
    run_stage(main)
