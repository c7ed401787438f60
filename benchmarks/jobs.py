"""How much sooner is the graph done with several stages at once, and what does DVC cost beside it?

    python -m benchmarks.jobs [--jobs 1 2] [--graphs default seeds] [--repeats 1] [--epochs N] [--json FILE]

Clones this repository at its commit into a temporary folder and runs its graph from nothing with each number of jobs,
turn about, one thread a stage. `default` is the graph of params.yaml, `seeds` the same with three seeds. Reported for
each: seconds on the clock, processor seconds of all processes, and the ratio to the first number of jobs, against its
limit (0.6 and 0.55 with two jobs on two idle cores). dvc.lock must be the same, byte for byte, or the script fails.

Beside it stand the seconds that DVC takes without any work: `restored`, after dvc.lock and data/ have been removed, so
that every stage comes from the run cache, and `nothing to do`, the same run once more. `--epochs 1` tries the script.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.parts.reports import tell, tell_part
from pipeline.processes.commands import environment
from reprise.storage.provenance import machine, versions

ROOT = Path(__file__).resolve().parents[1]
REPRISE = (sys.executable, "-c", "from pipeline.cli.main import main; main()", "repro", "--jobs")
SEEDS = {"default": [0], "seeds": [0, 1, 2]}
LIMITS = {"default": 0.6, "seeds": 0.55}  # of one job's time, with two jobs on two idle cores
_RESULTS = ("data", "dvc.lock", "metrics.json")
_STATE = (".dvc/cache", ".dvc/tmp", ".reprise")


def clone(folder: Path, graph: str, epochs: int | None) -> None:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    yaml, path = YAML(), folder / "params.yaml"
    params = yaml.load(path.read_text(encoding="utf-8"))
    params["seeds"] = SEEDS[graph]
    if epochs is not None:
        params["train"] |= {"epochs": epochs, "warmup_epochs": 0}
        params["model_options"]["dae"]["epochs"] = 1
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(params, file)


def remove(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    subprocess.run(["git", "checkout", "--quiet", "--", "data"], cwd=folder, check=True)  # its README


def timed(folder: Path, jobs: int) -> tuple[float, float]:
    """Run the graph; return seconds on the clock, and of processors."""
    variables = {**environment(), "PYTHONPATH": str(folder), "REPRISE_THREADS": "1", "REPRISE_QUIET": "1"}
    began, spent = time.perf_counter(), _spent()
    done = subprocess.run([*REPRISE, str(jobs)], cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"reprise repro --jobs {jobs} failed in {folder}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
    return time.perf_counter() - began, _spent() - spent


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(graph: str, all_jobs: list[int], repeats: int, epochs: int | None) -> dict[str, Any]:
    """Run one graph with each number of jobs, `repeats` times."""
    found: dict[int, dict[str, list[float]]] = {
        jobs: {name: [] for name in ("wall", "processor", "restored", "nothing to do")} for jobs in all_jobs
    }
    locks = set()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clone"
        clone(folder, graph, epochs)
        for turn in range(repeats):
            for jobs in all_jobs if turn % 2 == 0 else reversed(all_jobs):
                times = found[jobs]
                remove(folder, *_RESULTS, *_STATE)
                wall, processor = timed(folder, jobs)
                times["wall"].append(wall)
                times["processor"].append(processor)
                locks.add((folder / "dvc.lock").read_bytes())
                remove(folder, *_RESULTS)
                times["restored"].append(timed(folder, jobs)[0])
                timed(folder, jobs)  # holds the parameters against the images, once
                times["nothing to do"].append(timed(folder, jobs)[0])
                locks.add((folder / "dvc.lock").read_bytes())
                tell_part({f"{graph}, {jobs} jobs": {name: round(values[-1], 1) for name, values in times.items()}})
    if len(locks) > 1:
        raise SystemExit(f"{graph}: dvc.lock differs between runs")
    first = found[all_jobs[0]]["wall"]
    report: dict[str, Any] = {"dvc.lock": "the same bytes in all runs"}
    for jobs, times in found.items():
        ratios = [wall / one for wall, one in zip(times["wall"], first, strict=True)]
        report[f"{jobs} jobs"] = {
            **{name: _spread(values) for name, values in times.items()},
            "ratio": _spread(ratios, 3),
            **({"limit": LIMITS[graph]} if jobs == 2 else {}),
        }
    return report


def _spread(values: list[float], digits: int = 1) -> dict[str, float]:
    parts = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: round(value, digits) for name, value in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--graphs", nargs="+", choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="train this long instead, to try the script out")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "versions": versions(), "load": os.getloadavg()}
    report |= {"repeats": options.repeats, "epochs": options.epochs}
    for graph in options.graphs:
        report[graph] = measure(graph, options.jobs, options.repeats, options.epochs)
    tell(report, options.json)


if __name__ == "__main__":
    main()
