"""What the graph costs besides its work: seconds by kind of stage, process starts and DVC's own work.

    python -m benchmarks.overhead [REVISION[:reprise] ...] [--small] [--json FILE]

Clones each revision of this repository into a temporary folder and runs its graph from nothing, on one thread, with an
empty cache: with `dvc repro`, or with `reprise repro --jobs 1` where ":reprise" follows the revision. DVC's lines are
timed as they come: a stage lasts from its "Running stage" to the next one, so its seconds hold the start of its process
and what DVC does after it. The work is what the stages themselves say they took (`.reprise/provenance`, from after
their imports); the rest is overhead.

`--small` runs four methods with three seeds for two epochs instead: twelve trainings of ten steps.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.parts.reports import tell, tell_part
from reprise.storage.provenance import machine, versions

ROOT = Path(__file__).resolve().parents[1]
SMALL = (  # edits of params.yaml that hold for every revision since 0.1
    (r"(?m)^seeds: \[0\]", "seeds: [0, 1, 2]"),
    (r"(?m)^  epochs: 60", "  epochs: 2"),
    (r"(?m)^  warmup_epochs: 5", "  warmup_epochs: 0"),
    (r"(?m)^  - \{name: patch_kmeans,.*\n", ""),
    (r"(?m)^  patch_kmeans: .*\n", ""),
)


def clone(revision: str, folder: Path, small: bool) -> None:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "checkout", "--quiet", revision], cwd=folder, check=True)
    path = folder / "params.yaml"
    text = path.read_text(encoding="utf-8")
    for pattern, new in SMALL if small else ():
        text, times = re.subn(pattern, new, text)
        if not times:
            raise SystemExit(f"{revision}: params.yaml has no line that fits {pattern}")
    path.write_text(text, encoding="utf-8")
    (folder / "dvc.lock").unlink(missing_ok=True)  # else DVC would look for results that this machine lacks


def command_of(tool: str) -> list[str]:
    if tool == "reprise":
        return [sys.executable, "-c", "from pipeline.cli.main import main; main()", "repro", "--jobs", "1"]
    return [sys.executable, "-m", "dvc", "repro"]


def run(folder: Path, tool: str) -> tuple[float, dict[str, float], dict[str, int]]:
    """Run the graph; return its wall seconds, and seconds and number of stages by kind."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "REPRISE_THREADS": "1", "REPRISE_QUIET": "1"}
    environment |= {"DVC_NO_ANALYTICS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    began = time.perf_counter()
    process = subprocess.Popen(command_of(tool), cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    seconds: dict[str, float] = defaultdict(float)
    number: dict[str, int] = defaultdict(int)
    kind, since = "before the first stage", began
    assert process.stdout is not None
    for line in process.stdout:
        if match := re.match(r"Running stage '(\w+)", line):
            now = time.perf_counter()
            seconds[kind] += now - since
            kind, since = match[1], now
            number[kind] += 1
    if process.wait():
        raise SystemExit(f"the graph failed in {folder}")
    seconds[kind] += time.perf_counter() - since
    return time.perf_counter() - began, dict(seconds), dict(number)


def measure(named: str, small: bool) -> dict[str, Any]:
    revision, _, tool = named.partition(":")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clone"
        clone(revision, folder, small)
        wall, seconds, number = run(folder, tool)
        work = sum(json.loads(p.read_text())["seconds"] for p in (folder / ".reprise/provenance").rglob("*.json"))
        before = os.times()
        subprocess.run(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), "DVC_NO_ANALYTICS": "1"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        after = os.times()
    return {
        "wall": round(wall, 1),
        "work of the stages": round(work, 1),
        "overhead": round(wall - work, 1),
        "stages": sum(number.values()),
        "processor seconds of the second dvc repro": round(
            after.children_user + after.children_system - before.children_user - before.children_system, 2
        ),
        "seconds by kind": {k: round(v, 1) for k, v in sorted(seconds.items(), key=lambda item: -item[1])},
        "number by kind": number,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revisions", nargs="*", default=["HEAD"])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "versions": versions(), "small": options.small}
    for revision in options.revisions:
        report[revision] = measure(revision, options.small)
        tell_part({revision: report[revision]})
    tell(report, options.json)


if __name__ == "__main__":
    main()
