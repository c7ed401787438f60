"""Blocks of six stages in this process and on one and two local Dask workers: `python -m benchmarks.cost.blocks`.

All in one run, turn about for each number of workers: seconds of each repeat, the ratio of the medians to this process
(below 1: Dask is faster), and the number of blocks. `empty` is a block that does nothing: what Dask adds to each block
that is submitted, computed and taken one after the other. `opening` is what a stage pays before its first block. The
first call of each, which is not counted, pays for libraries that workers load. `--toy` takes small sizes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.parts.reports import tell, tell_part
from benchmarks.parts.stage_work import TOY, Sizes, project
from reprise.config.errors import printable
from reprise.runtime.blocks import use
from reprise.runtime.entry import cores, prepare_process
from reprise.storage.provenance import machine, versions

EMPTY = 200  # blocks that do nothing but to write a number as text


def timed(call: Callable[[], int], repeats: int) -> dict[str, Any]:
    """Call once without the clock, then `repeats` times with it."""
    units, seconds = call(), []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(round(time.perf_counter() - began, 3))
    return {"units": units, "seconds": seconds, "median": statistics.median(seconds)}


def measured(sizes: Sizes, repeats: int, workers: Sequence[int]) -> dict[str, Any]:
    """Measure every stage in this process, then on each number of workers.

    Returns:
        {"this process": {stage: ...}, "2 workers": {stage: ..., "opening": seconds, "empty": seconds a block}, ...}
    """
    found: dict[str, Any] = {}
    with project(sizes) as stages:
        os.environ.pop(use.VARIABLE, None)
        found["this process"] = {name: timed(call, repeats) for name, call in stages.items()}
        tell_part(found)
        for count in workers:
            os.environ[use.VARIABLE] = f"local:{count}"
            began = time.perf_counter()
            cluster = use.cluster()
            assert cluster is not None
            part: dict[str, Any] = {"opening": round(time.perf_counter() - began, 2)}
            list(cluster.computed(printable, range(EMPTY)))
            began = time.perf_counter()
            list(cluster.computed(printable, range(EMPTY)))
            part["empty"] = round((time.perf_counter() - began) / EMPTY, 5)
            for name, call in stages.items():
                blocks = cluster.blocks
                part[name] = timed(call, repeats)
                part[name]["blocks"] = (cluster.blocks - blocks) // (repeats + 1)
                part[name]["ratio"] = round(part[name]["median"] / found["this process"][name]["median"], 2)
            use.close()
            os.environ.pop(use.VARIABLE)
            found[f"{count} worker{'s' * (count > 1)}"] = part
            tell_part({str(count): part})
    return found


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Parse the command line, measure, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--toy", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    prepare_process()
    report = {
        "machine": machine(),
        "cores": cores(),
        "versions": versions(),
        **measured(TOY if arguments.toy else Sizes(), arguments.repeats, arguments.workers),
    }
    tell(report, arguments.json)
    return report


if __name__ == "__main__":
    main()
