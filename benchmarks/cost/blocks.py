"""Blocks of six stages in this process and on one and two local Dask workers: `python -m benchmarks.cost.blocks`.

All in one run, one number of workers after the other: seconds of each repeat, the ratio of the medians to this process
(below 1: Dask is faster), and the number of blocks. `empty` is a block that does nothing: what Dask adds to each block
that is submitted, computed and taken one after the other. `opening` is what a stage pays before its first block. The
first call of each, which is not counted, pays for libraries that workers load. `--toy` takes small sizes; `--images`,
`--rows` (of k-means) and `--queries` (each compared with as many) take others.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.parts.reports import tell, tell_part
from benchmarks.parts.stage_work import TOY, Sizes, project
from reprise.config.errors import printable
from reprise.runtime.blocks import use
from reprise.runtime.blocks.cluster import Cluster
from reprise.runtime.entry import cores, prepare_process
from reprise.storage.provenance import machine, versions

SIZES = ("images", "rows", "queries")  # that the command line may change
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
        {"this process": {stage: ...}, "2 workers": {stage: ..., "empty": seconds a block}, ...}
    """
    found: dict[str, Any] = {}
    with project(sizes) as stages:
        os.environ.pop(use.VARIABLE, None)
        found["this process"] = {name: timed(call, repeats) for name, call in stages.items()}
        tell_part(found)
        for count in workers:
            part = {name: _on_dask(call, count, repeats) for name, call in stages.items()}
            for name, here in found["this process"].items():
                part[name]["ratio"] = round(part[name]["median"] / here["median"], 2)
            part["empty"] = _empty(count)
            found[f"{count} worker{'s' * (count > 1)}"] = part
            tell_part({str(count): part})
    return found


@contextmanager
def _workers(count: int) -> Iterator[Cluster]:
    """Start workers, as every stage does for itself."""
    os.environ[use.VARIABLE] = f"local:{count}"
    cluster = use.cluster()
    assert cluster is not None
    try:
        yield cluster
    finally:
        use.close()
        os.environ.pop(use.VARIABLE)


def _on_dask(call: Callable[[], int], count: int, repeats: int) -> dict[str, Any]:
    began = time.perf_counter()
    with _workers(count) as cluster:
        opening = round(time.perf_counter() - began, 2)
        return timed(call, repeats) | {"opening": opening, "blocks": cluster.blocks // (repeats + 1)}


def _empty(count: int) -> float:
    """Return the seconds of a block that does nothing, workers ready."""
    with _workers(count) as cluster:
        list(cluster.computed(printable, range(EMPTY)))
        began = time.perf_counter()
        list(cluster.computed(printable, range(EMPTY)))
        return round((time.perf_counter() - began) / EMPTY, 5)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Parse the command line, measure, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--toy", action="store_true", help="small sizes, to see that it runs")
    for name in SIZES:
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    prepare_process()
    given = {name: value for name in SIZES if (value := getattr(arguments, name)) is not None}
    sizes = replace(TOY if arguments.toy else Sizes(), **given)
    report = {
        "machine": machine(),
        "cores": cores(),
        "versions": versions(),
        "sizes": asdict(sizes),
        **measured(sizes, arguments.repeats, arguments.workers),
    }
    tell(report, arguments.json)
    return report


if __name__ == "__main__":
    main()
