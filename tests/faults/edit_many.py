"""`python -m tests.faults.edit_many --edits 60 --seed 0 --project DIR`: edit inputs while the graph runs.

A small project with all kinds of stages runs once undisturbed. Then it runs from nothing again and again, by plain DVC
and by `reprise repro` in turn, and at random moments somebody edits a parameter, a source file or an artifact; half of
the edits are taken back a moment later. At the end of each pass everything is taken back and the graph completes.

Each edit would change the results of some stage, so two things show a wrong record:

- the dvc.lock of a pass differs from that of the undisturbed run,
- DVC's run cache holds two results for the same inputs, or for other parameters the results of the undisturbed run.

Prints one line an edit and the counts; exits with 1 if a record is wrong.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

from ruamel.yaml import YAML

from pipeline.graph.lock_file import read_lock
from tests.faults.killing import DVC, REPRISE, finish, stage_at_work, start
from tests.faults.reduced import one_run, read

REPOSITORY = Path(__file__).resolve().parents[2]
PARAMETERS: dict[str, Any] = {  # each with another valid value, by which a stage's results change
    "source.val_fraction": 0.2,
    "shard.max_shard_bytes": 100_000,
    "train.learning_rate": 0.05,
    "methods.simclr.temperature": 0.4,
    "embed.augmented": 128,
    "probes.quality.knn.k": 5,
    "summary.confidence": 0.9,
    "report.samples": 20,
}
FILES = {  # text that each of them holds, and what stands there instead
    "reprise/storage/atomic.py": ("json.dumps(value, indent=2", "json.dumps(value, indent=3"),
    "reprise/objectives/nt_xent.py": ("z_Nd.T / temperature", "z_Nd.T / temperature / 2"),
    "reprise/measures/nearest/neighbours.py": ("import numpy as np\n", "import numpy as np\n\nEDITED = 1\n"),
    "stages/report/claims/opening.py": ('else "Unnamed data set"', 'and "Edited"'),
    "targets.csv": ("image", "image,size"),
    "data/ingest/views.json": ('"flip": false', '"flip": true'),
    "data/shards/index.parquet": ("", "x"),
    "data/code/pretrain/simclr.json": ('"', ' "'),
}


@dataclass
class Found:
    """What was edited, and what is wrong."""

    edits: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    stopped: int = 0
    wrong: list[str] = field(default_factory=list)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.edit_many", description=__doc__)
    parser.add_argument("--edits", type=int, default=60)
    parser.add_argument("--a-pass", type=int, default=6, help="edits in each pass of the graph")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--project", type=Path, required=True, help="a folder to make, for project and log")
    options = parser.parse_args()
    found = edit_many(options.project.resolve(), options.edits, options.a_pass, Random(options.seed), options.epochs)
    counts = {"edits": dict(found.edits), "during": dict(found.stages), "runs_that_stopped": found.stopped}
    print(json.dumps(counts | {"wrong_records": found.wrong}, indent=2))
    return bool(found.wrong)


def edit_many(folder: Path, edits: int, a_pass: int, rng: Random, epochs: int) -> Found:
    """Run the passes; see the module."""
    folder.mkdir(parents=True)
    root, log = folder / "project", folder / "log.txt"
    one_run(root, REPOSITORY, epochs)
    began = time.monotonic()
    assert finish(root, REPRISE, log) == 0, log.read_text()
    seconds = time.monotonic() - began
    want = (root / "dvc.lock").read_bytes()
    reference = read_lock(root)
    found = Found()
    for command in cycle([DVC, REPRISE]):
        if found.edits.total() >= edits:
            break
        from_nothing(root)
        for _ in range(min(a_pass, edits - found.edits.total())):
            one_edit(root, command, log, rng, seconds, found)
        if finish(root, command, log) != 0 or (root / "dvc.lock").read_bytes() != want:
            found.wrong.append(f"dvc.lock after {found.edits.total()} edits (see {log})")
        found.wrong += wrong_entries(root, reference)
    return found


def one_edit(root: Path, command: tuple[str, ...], log: Path, rng: Random, seconds: float, found: Found) -> None:
    """Start the run, edit at a random moment, wait for the end, and take the edit back."""
    name = rng.choice([*PARAMETERS, *FILES])
    driver = start(root, command, log)
    wait_until = time.monotonic() + rng.uniform(0, seconds)
    while driver.poll() is None and time.monotonic() < wait_until:
        time.sleep(0.01)
    if driver.poll() is not None:  # it ended first: there was little left to do
        return
    path = root / ("params.yaml" if name in PARAMETERS else name)
    if not path.exists():  # not made yet, or removed by DVC for the stage that makes it
        driver.wait()
        return
    if name.startswith("data/") and FILES[name][0].encode() not in path.read_bytes():  # an earlier edit is still there
        driver.wait()
        return
    before, during = path.read_bytes(), stage_at_work(root).split(" ")[0] or "between two stages"
    path.write_bytes(edited(name, before))
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0, 3))
        path.write_bytes(before)
    code = driver.wait()
    if path.read_bytes() != before and (name in PARAMETERS or not name.startswith("data/")):
        path.write_bytes(before)
    found.edits[name] += 1
    found.stages[during] += 1
    found.stopped += code != 0
    print(f"{found.edits.total()}: {name} during {during}: exit {code}", flush=True)


def edited(name: str, content: bytes) -> bytes:
    """Return the content of a file after an edit."""
    if name in PARAMETERS:
        return with_parameter(content, name, PARAMETERS[name])
    old, new = (text.encode() for text in FILES[name])
    assert old in content, name
    return content.replace(old, new, 1) if old else content + new


def with_parameter(content: bytes, name: str, value: Any) -> bytes:
    """Return params.yaml with another value of one parameter."""
    params = YAML().load(content.decode())
    *sections, last = name.split(".")
    block = params
    for section in sections:
        block = block[section]
    assert block[last] != value, name
    block[last] = value
    text = StringIO()
    YAML().dump(params, text)
    return text.getvalue().encode()


def wrong_entries(root: Path, reference: dict[str, Any]) -> Iterator[str]:
    """Name entries of DVC's run cache that cannot be true."""
    right = {entry["cmd"]: entry for entry in reference.values()}
    for key in sorted((root / ".dvc/cache/runs").glob("*/*")):
        entries = [read(file) for file in key.iterdir()]
        results = {json.dumps(_results(entry)) for entry in entries}
        if len(results) > 1:
            yield f"{entries[0]['cmd']}: {len(results)} results for the same inputs"
        for entry in entries:
            true = right.get(entry["cmd"])
            same = true and entry["deps"] == true["deps"] and _results(entry) == _results(true)
            if same and entry.get("params") != true.get("params"):
                yield f"{entry['cmd']}: other parameters, the same results"


def _results(entry: dict[str, Any]) -> list[str]:
    return [out["md5"] for out in entry["outs"]]


def from_nothing(root: Path) -> None:
    """Remove all results, DVC's cache and the work folders, and take every edit back."""
    for path in (root / "data").iterdir():
        if path.name != ".gitignore":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in (".dvc/cache", ".dvc/tmp", ".reprise", "dvc.lock", "metrics.json"):
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
