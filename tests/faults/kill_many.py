"""`python -m tests.faults.kill_many --kills 100 --seed 0 --project DIR`: kill the default graph again and again.

A git clone of this repository runs its graph; a random signal hits DVC, the stage, or all of the run, which is
started again: half of the times at a random moment, half while a stage chosen at random is at work. When the graph
completes, its dvc.lock is compared with that of an uninterrupted run, everything is removed, and it starts from
nothing, until there were enough kills and the last graph is done. Prints one line a kill and the counts; exits
with 1 if anything was left, held, doubled or different.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.faults.killing import (
    REPRISE,
    SIGNALS,
    TARGETS,
    family,
    finish,
    held_locks,
    kill_once,
    leftovers,
    watching,
)
from tests.faults.reduced import read, write

STAGES = (
    "stages.check", "stages.ingest", "stages.validate", "stages.shard", "stages.mine.features", "stages.mine",
    "stages.pretrain", "stages.embed", "stages.probe", "stages.summary", "stages.report",
)  # fmt: skip
REPOSITORY = Path(__file__).resolve().parents[2]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kill_many", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--project", type=Path, required=True, help="a folder to make; the clone and its log go there")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="a kill comes this long after a start at the latest"
    )
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds after which no further kill is made")
    parser.add_argument("--epochs", type=int, help="train this long, and the autoencoder a fourth of it")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(options.project.resolve() / "clone")  # the clone's code, not an installed one
    report = rounds(
        options.project.resolve(), options.kills, Random(options.seed), options.seconds, options.limit, options.epochs
    )
    print(json.dumps(report, indent=2))
    return int(
        any(report[name] for name in ("orphans", "stuck_locks", "second_trainers", "hash_differences", "failed"))
    )


def rounds(
    folder: Path, kills: int, rng: Random, seconds: float, limit: float, epochs: int | None
) -> dict[str, object]:
    """Reference run, then kills and restarts; see the module."""
    folder.mkdir(parents=True)
    root, log = folder / "clone", folder / "log.txt"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(root)], check=True)
    if epochs is not None:
        params = read(root / "params.yaml")
        params["train"] |= {"epochs": epochs, "warmup_epochs": 1}
        params["extractors"]["dae"]["epochs"] = max(1, epochs // 4)
        write(root / "params.yaml", params)
    began = time.monotonic()
    from_nothing(root)
    assert finish(root, REPRISE, log, 3600) == 0, log.read_text()[-2000:]
    want = (root / "dvc.lock").read_bytes()
    reference = time.monotonic() - began
    print(f"reference run: {reference:.0f} s", flush=True)
    from_nothing(root)
    found: dict[str, object] = {"reference_seconds": round(reference)}
    orphans: list[str] = []
    stuck: list[str] = []
    twins: list[str] = []
    different: list[str] = []
    failed: list[str] = []
    stages: Counter[str] = Counter()
    done = completed = 0
    began = time.monotonic()
    while done < kills and time.monotonic() - began < limit:
        target, signum = rng.choice(TARGETS), rng.choice(SIGNALS)
        stage = rng.choice(STAGES) if rng.random() < 0.5 else ""
        with watching(root) as seen:
            killed = kill_once(root, target, signum, log, rng, (0.2, seconds), REPRISE, stage)
        twins += seen
        orphans += killed.left
        for process in family(root) if killed.left else []:
            process.kill()
        stuck += held_locks(root)
        done += bool(killed.told)
        stages[killed.stage or "between two stages"] += bool(killed.told)
        met = (
            f"{len(killed.told)} processes, {killed.stage or 'between two stages'}" if killed.told else "it ended first"
        )
        print(f"{done}: {signal.Signals(signum).name} to {target} ({met})", flush=True)
        if not killed.told:
            completed += compare(root, want, log, different, failed)
            from_nothing(root)
    with watching(root) as seen:
        if finish(root, REPRISE, log, 3600):
            failed.append(log.read_text()[-500:])
    twins += seen
    completed += compare(root, want, log, different, failed)
    return found | {
        "epochs": read(root / "params.yaml")["train"]["epochs"],
        "kills": done,
        "while": dict(stages.most_common()),
        "graphs_completed": completed,
        "orphans": len(orphans),
        "stuck_locks": len(stuck),
        "second_trainers": len(twins),
        "hash_differences": len(different),
        "failed": len(failed),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "details": orphans + stuck + twins + different + failed,
    }


def compare(root: Path, want: bytes, log: Path, different: list[str], failed: list[str]) -> int:
    """Bring the graph to its end and hold it against the reference; 1 if it got there."""
    if finish(root, REPRISE, log, 3600):
        failed.append(log.read_text()[-500:])
        return 0
    if (root / "dvc.lock").read_bytes() != want:
        different.append(f"dvc.lock of graph in {root}")
        shutil.copy(root / "dvc.lock", root.with_name(f"different-{len(different)}.lock"))
    different.extend(leftovers(root))
    print("completed: the same dvc.lock" if not different else f"completed, {different}", flush=True)
    return 1


def from_nothing(root: Path) -> None:
    """As after cloning, without dvc.lock: no data, no cache, no working state."""
    for name in (".dvc/cache", ".dvc/tmp", ".reprise", "data", "dvc.lock", "metrics.json"):
        path = root / name
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    subprocess.run(["git", "checkout", "--quiet", "--", "data"], cwd=root, check=True)


if __name__ == "__main__":
    sys.exit(main())
