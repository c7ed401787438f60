"""What views cost at 32 pixels on a CPU, against another commit, turn about.

    python -m benchmarks.training.views --against FOLDER [--rounds 9] [--json FILE]

FOLDER is a checkout of the other commit. One process a commit makes SimCLR's two views of 256 images, whole batches
on one core. Processor seconds are counted, which other work on the machine hardly changes, and the ratio is taken
within a round.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.parts.reports import tell
from reprise.storage.provenance import machine, versions

BATCHES = 20  # of a round
# What both commits have: short settings, and a maker of views of whole batches.
WORKER = """
import sys, time
import numpy as np, torch
from pathlib import Path
from reprise.config.params import ImageParams
from reprise.storage.atomic import write_json
from reprise.training.params import ViewParams
from stages.pretrain.views.make import BatchedViews
from stages.pretrain.views.settings import by_view, resolve_views

torch.set_num_threads(1)
rng = np.random.default_rng(0)
images = np.kron(rng.integers(0, 256, (1024, 8, 8, 3), dtype=np.uint8), np.ones((1, 4, 4, 1), np.uint8))
numbers = ViewParams(crop_scale_min=0.08, flip=True, jitter=1.0, grey=0.2, blur=0.5, solarize=0.2)
file = Path(sys.argv[1])
write_json(file, {})
settings = resolve_views(numbers, file, ImageParams(size=32, channels=3), (0.5,) * 3, (0.25,) * 3)
make = BatchedViews(images, by_view([settings] * 2), 0, "cpu")
for number, line in enumerate(sys.stdin):
    began = time.process_time()
    for batch in range(int(line)):
        make(np.arange(256) + 256 * (batch % 4), number, batch)
    print((time.process_time() - began) / int(line), flush=True)
"""


def started(place: Path, name: str) -> subprocess.Popen[str]:
    """Start the process of one commit."""
    scratch = Path(f".reprise/bench-views-{name}.json").resolve()
    scratch.parent.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-P", "-c", WORKER, str(scratch)],
        env=os.environ | {"PYTHONPATH": str(place.resolve()), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def milliseconds(process: subprocess.Popen[str], batches: int) -> float:
    """Processor milliseconds of a batch."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{batches}\n")
    process.stdin.flush()
    return 1e3 * float(process.stdout.readline())


def main() -> None:
    """Time both commits, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    processes = {"now": started(Path(), "now"), "before": started(options.against, "before")}
    found: dict[str, list[float]] = {name: [] for name in processes}
    for name, process in processes.items():
        milliseconds(process, 3)  # warms up
        found[name] = []
    for number in range(options.rounds):
        order = list(processes) if number % 2 else list(processes)[::-1]
        for name in order:
            found[name].append(milliseconds(processes[name], BATCHES))
    for process in processes.values():
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    ratios = [now / before for now, before in zip(found["now"], found["before"], strict=True)]
    report: dict[str, Any] = {"machine": machine(), "versions": versions(), "rounds": options.rounds}
    for name, values in found.items():
        report[f"{name}, ms of a batch"] = [round(v, 2) for v in (median(values), min(values), max(values))]
    report["now / before"] = [round(v, 3) for v in (median(ratios), min(ratios), max(ratios))]
    tell(report, options.json)


if __name__ == "__main__":
    main()
