"""`python -m tests.faults.kill_many --kills 100 --seed 0 --project DIR`: kill the default graph again and again.

With `--jobs 2`, two stages run at once, and the signals go to `reprise` itself, to one of the stages, or to all.

A git clone of this repository runs its graph once undisturbed, and the times of its stages are written down. Then
it runs from nothing again and again, and each such pass is killed some twenty times: SIGINT, SIGTERM or SIGKILL to
DVC, the stage, or all of the run, which is started again. Half of the moments are drawn from the time that the
undisturbed run took, so long stages are hit often; half from the kinds of stages, so the short ones are hit as
well. When a pass completes, its dvc.lock is compared with that of the undisturbed run. Prints one line a kill and
the counts; exits with 1 if anything was left, held, doubled or different.
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
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from random import Random

from tests.faults.killing import (
    REPRISE,
    SIGNALS,
    TARGETS,
    TARGETS_OF_JOBS,
    family,
    finish,
    held_locks,
    into,
    kill_once,
    leftovers,
    stages_at_work,
    start,
    watching,
)
from tests.faults.reduced import read, write

REPOSITORY = Path(__file__).resolve().parents[2]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kill_many", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--a-pass", type=int, default=20, help="kills in each pass of the graph")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--project", type=Path, required=True, help="a folder to make; the clone and its log go there")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds after which no further kill is made")
    parser.add_argument("--jobs", type=int, default=1, help="stages at once")
    parser.add_argument("--epochs", type=int, help="train this long, and the autoencoder a fourth of it")
    options = parser.parse_args()
    project = options.project.resolve()
    os.environ["PYTHONPATH"] = str(project / "clone")  # the clone's code, not an installed one
    report = passes(project, options, Random(options.seed))
    print(json.dumps(report, indent=2))
    return int(
        any(report[name] for name in ("orphans", "stuck_locks", "second_trainers", "hash_differences", "failed"))
    )


@dataclass
class Found:
    """What the kills met and what they left."""

    stages: Counter[str] = field(default_factory=Counter)
    signals: Counter[str] = field(default_factory=Counter)
    orphans: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    twins: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    completed: int = 0


@dataclass(frozen=True)
class Span:
    """When a stage ran in the undisturbed run: its command line, and seconds since the start of that run."""

    line: str
    begin: float
    end: float


def passes(folder: Path, options: argparse.Namespace, rng: Random) -> dict[str, object]:
    """The undisturbed run, then kills and restarts; see the module."""
    kills, epochs, limit = options.kills, options.epochs, options.limit
    command = (*REPRISE, "--jobs", str(options.jobs))
    targets = TARGETS if options.jobs == 1 else TARGETS_OF_JOBS
    folder.mkdir(parents=True)
    root, log = folder / "clone", folder / "log.txt"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(root)], check=True)
    if epochs is not None:
        params = read(root / "params.yaml")
        params["train"] |= {"epochs": epochs, "warmup_epochs": 1}
        params["model_options"]["dae"]["epochs"] = max(1, epochs // 4)
        write(root / "params.yaml", params)
    from_nothing(root)
    spans, reference = undisturbed(root, log, command)
    want = (root / "dvc.lock").read_bytes()
    print(f"undisturbed run: {len(spans)} stages, {reference:.0f} s", flush=True)
    found, began = Found(), time.monotonic()
    kinds: list[tuple[str, int]] = []  # target and signal: each pair comes equally often, in random order
    while found.signals.total() < kills and time.monotonic() - began < limit:
        from_nothing(root)
        for place, seconds in moments(spans, min(options.a_pass, kills - found.signals.total()), rng):
            if time.monotonic() - began > limit:
                break
            if not kinds:
                kinds = list(product(targets, SIGNALS))
                rng.shuffle(kinds)
            target, signum = kinds[-1]
            until = into(root, [span.line for span in spans], place, seconds)
            with watching(root) as seen:
                killed = kill_once(root, target, signum, log, rng, until, command)
            found.twins += seen
            found.orphans += killed.left
            for process in family(root) if killed.left else []:
                process.kill()
            found.stuck += held_locks(root)
            if not killed.told:  # it ended first
                break
            kinds.pop()
            found.stages[killed.stage or "between two stages"] += 1
            found.signals[f"{signal.Signals(signum).name} to {target}"] += 1
            met = f"{len(killed.told)} processes, {killed.stage or 'between two stages'}"
            print(f"{found.signals.total()}: {signal.Signals(signum).name} to {target} ({met})", flush=True)
        with watching(root) as seen:
            compare(root, want, log, found, command)
        found.twins += seen
    return {
        "undisturbed_seconds": round(reference),
        "stages": len(spans),
        "jobs": options.jobs,
        "epochs": read(root / "params.yaml")["train"]["epochs"],
        "kills": found.signals.total(),
        "while": dict(found.stages.most_common()),
        "signals": dict(sorted(found.signals.items())),
        "graphs_completed": found.completed,
        "orphans": len(found.orphans),
        "stuck_locks": len(found.stuck),
        "second_trainers": len(found.twins),
        "hash_differences": len(found.different),
        "failed": len(found.failed),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "details": found.orphans + found.stuck + found.twins + found.different + found.failed,
    }


def undisturbed(root: Path, log: Path, command: Sequence[str]) -> tuple[list[Span], float]:
    """Run the whole graph and note when each stage was at work; the spans in order, and the seconds of all."""
    spans: dict[str, Span] = {}
    began = time.monotonic()
    process = start(root, command, log)
    while process.poll() is None:
        now = time.monotonic() - began
        for line in stages_at_work(root):
            spans[line] = Span(line, spans[line].begin if line in spans else now, now)
        time.sleep(0.05)
    assert process.returncode == 0, log.read_text()[-2000:]
    return list(spans.values()), time.monotonic() - began


def moments(spans: list[Span], kills: int, rng: Random) -> list[tuple[int, float]]:
    """When to kill in one pass, in order: the stage's place, -1 for what comes before the first, and seconds in it."""
    kinds = defaultdict(list)
    for place, span in enumerate(spans):
        kinds[span.line.split(" ")[0]].append(place)
    drawn = []
    for number in range(kills):
        if number % 2:
            time_of_all = rng.uniform(0, spans[-1].end)
            place = sum(span.begin <= time_of_all for span in spans) - 1
            drawn.append((place, time_of_all - (spans[place].begin if place >= 0 else 0.0)))
        else:
            place = rng.choice(kinds[rng.choice(list(kinds))])
            drawn.append((place, rng.uniform(0, spans[place].end - spans[place].begin)))
    return sorted(drawn)


def compare(root: Path, want: bytes, log: Path, found: Found, command: Sequence[str]) -> None:
    """Bring the graph to its end and hold it against the undisturbed one."""
    if finish(root, command, log, 3600):
        found.failed.append(log.read_text()[-500:])
        return
    differences = leftovers(root)
    if (root / "dvc.lock").read_bytes() != want:
        differences.append(f"dvc.lock of pass {found.completed}")
        shutil.copy(root / "dvc.lock", root.with_name(f"different-{found.completed}.lock"))
    found.completed += 1
    found.different += differences
    print(f"completed: {differences or 'the same dvc.lock'}", flush=True)


def from_nothing(root: Path) -> None:
    """As after cloning, without dvc.lock: no data, no cache, no working state."""
    for name in (".dvc/cache", ".dvc/tmp", ".reprise", "data", "dvc.lock", "metrics.json"):
        path = root / name
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    subprocess.run(["git", "checkout", "--quiet", "--", "data"], cwd=root, check=True)


if __name__ == "__main__":
    sys.exit(main())
