"""What stages pay before they work: seconds of imports, by stage of a finished graph.

    python -m benchmarks.startup [--workspace FOLDER] [--against FOLDER] [--repeats 3] [--json FILE]

Runs each kind of stage of a workspace whose graph is finished (a copy: stages write their outputs again, and .reprise/
is emptied) under `python -X importtime` and adds up the time of every import, also those inside functions; the least
of the repeats. The total counts a kind as often as the default graph has it. `--against` is another such copy, say of
an earlier commit, measured turn about.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.parts.reports import tell
from reprise.storage.provenance import machine, versions

KINDS = {  # command -> how often the default graph of five runs has it
    "stages.check": 1,
    "stages.ingest": 1,
    "stages.validate": 1,
    "stages.shard": 1,
    "stages.models.train --seed 0": 1,
    "stages.mine.features --name dae --seed 0": 1,
    "stages.mine.given": 1,
    "stages.mine --name dae_kmeans --seed 0": 1,
    "stages.pretrain --run random --seed 0": 5,
    "stages.embed --run random --seed 0": 5,
    "stages.probe --run random --seed 0": 5,
    "stages.summary": 1,
    "stages.report": 1,
}
LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)")


def import_seconds(workspace: Path, command: str) -> tuple[float, dict[str, float]]:
    """All imports of one run of a stage, and those of the heaviest packages."""
    shutil.rmtree(workspace / ".reprise", ignore_errors=True)  # else probes that did not change are not computed
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", *command.split()],
        cwd=workspace,
        env=os.environ | {"PYTHONPATH": str(workspace.resolve())},
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"{command} failed in {workspace}: {done.stderr[-500:]}")
    packages: dict[str, int] = {}
    for microseconds, module in LINE.findall(done.stderr):
        packages[module.split(".")[0]] = packages.get(module.split(".")[0], 0) + int(microseconds)
    heaviest = sorted(packages, key=lambda name: -packages[name])[:4]
    return sum(packages.values()) / 1e6, {name: round(packages[name] / 1e6, 2) for name in heaviest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--against", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    places = {"now": options.workspace} | ({"before": options.against} if options.against else {})
    found: dict[str, Any] = {}
    for command in KINDS:
        best: dict[str, Any] = {}
        for _ in range(options.repeats):
            for name, place in places.items():
                seconds, packages = import_seconds(place, command)
                if seconds < best.get(name, {"seconds": 1e9})["seconds"]:
                    best[name] = {"seconds": round(seconds, 2), "of which": packages}
        found[command] = best
        print(command, {name: b["seconds"] for name, b in best.items()}, file=sys.stderr)
    total = {n: round(sum(found[c][n]["seconds"] * times for c, times in KINDS.items()), 1) for n in places}
    report: dict[str, Any] = {"machine": machine(), "versions": versions(), "repeats": options.repeats}
    report |= {"total import seconds of the default graph": total, "by stage": found}
    if options.against:
        report["before / now"] = round(total["before"] / total["now"], 2)
    tell(report, options.json)


if __name__ == "__main__":
    main()
