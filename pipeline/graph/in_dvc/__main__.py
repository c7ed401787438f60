"""Run DVC's command line with checks: `python -m pipeline.graph.in_dvc repro ...`, in the project folder."""

from __future__ import annotations

import signal
import sys

STAGES_FROM = "--stages-from"  # `repro --stages-from DESCRIPTOR`: the stages are named over a socket, one by one


def main() -> int:
    """Run one command, or wait for stages to run; return the exit status."""
    arguments = sys.argv[1:]
    if arguments[1:2] == [STAGES_FROM]:
        from pipeline.graph.in_dvc.loaded import run_stages_from

        return run_stages_from(int(arguments[2]))
    if "repro" not in arguments:
        from pipeline.graph.in_dvc.command import run_command

        return run_command(arguments)
    from pipeline.graph.in_dvc.stages_in_copies.starting import end_starting, prepare_to_start_stages

    prepare_to_start_stages(load=True)
    from pipeline.graph.in_dvc.command import run_command

    try:
        return run_command(arguments)
    finally:
        end_starting()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
