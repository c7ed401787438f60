"""Start Dask workers that fit: `python -m reprise.runtime.blocks.worker tcp://HOST:8786 --workers 4 --memory 4GiB`.

Run it in the project's folder. It is Dask's own command `dask worker` with one block at a time in each process, a bound
of memory, as many threads as stages have (REPRISE_THREADS, or one), and processes that may start others.
"""

from __future__ import annotations

import argparse
import os
import sys

from reprise.config.errors import ParameterError
from reprise.runtime.entry import THREAD_VARIABLES, threads


def main(argv: list[str]) -> None:
    """Parse the command line, and become Dask's command."""
    parser = argparse.ArgumentParser(prog="python -m reprise.runtime.blocks.worker", description=__doc__)
    parser.add_argument("address", help="of the scheduler: tcp://HOST:PORT or tls://HOST:PORT")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--memory", default="auto", help="bound of each process, such as 4GiB (default: its share)")
    arguments = parser.parse_args(argv)
    if arguments.workers < 1 or arguments.memory in ("0", "none"):
        found = f"--workers {arguments.workers} --memory {arguments.memory}"
        fix = "Give at least one worker, and a bound such as 4GiB."
        raise ParameterError("workers have a number and a bound of memory", where="arguments", found=found, fix=fix)
    count = str(threads())
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, count))
    os.environ["DASK_DISTRIBUTED__WORKER__DAEMON"] = "False"
    os.environ["DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON"] = repr(dict.fromkeys(THREAD_VARIABLES, count))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
    options = ["--nthreads", "1", "--nworkers", str(arguments.workers), "--memory-limit", arguments.memory]
    dask = [sys.executable, "-m", "dask", "worker", arguments.address, "--no-dashboard", *options]
    os.execv(sys.executable, dask)  # noqa: S606


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ParameterError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
