"""What several processes of one training cost: two with a core each against one with both, and one under torchrun.

    python -m benchmarks.training.ranks [--backbone resnet18] [--batch 256] [--rounds 5] [--steps 6] [--json FILE]
    python -m benchmarks.training.ranks --device cuda     # one process as it is, and one under torchrun
    python -m benchmarks.training.ranks --toy             # all contenders in seconds, and no figures to keep

Every contender trains SimCLR on the same pictures, views included, by the functions of stages.pretrain. Contenders take
turns, a round each; ratios are taken within a round, and median, lowest and highest are printed. The first steps of a
turn are not counted. Run it on an idle machine: processes wait for each other in every layer that normalises. On a GPU
a turn has more steps, since 2 % of a few milliseconds cannot be told from chance.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.parts.reports import tell
from reprise.runtime.entry import cores, prepare_process
from reprise.storage.provenance import machine, versions

if TYPE_CHECKING:
    from reprise.runtime.world import World

LEAST = {"processes": 0.90, "torchrun": 0.98}  # of the peer's images a second
STEPS = {"cpu": 6, "cuda": 300}
WARM_UP = 3  # steps: a GPU records its step in these
TOY = {"backbone": "resnet_tiny", "size": 16, "batch": 16, "steps": 2, "rounds": 1}


def images_per_second(options: argparse.Namespace, world: World) -> float:
    """Train for some steps in this process, beside the others of its world."""
    import numpy as np
    import torch

    from reprise.networks.backbone import build_backbone
    from reprise.runtime.device import resolve_compute
    from reprise.training.optimization.gradients import Gradients, accelerated
    from stages.pretrain.epochs import PretrainingEpochs
    from stages.pretrain.method import Context
    from stages.pretrain.methods.contrastive.simclr import SimCLR, SimCLRParams
    from stages.pretrain.ranks.share import Share
    from stages.pretrain.ranks.together import exchanging, shared_step
    from stages.pretrain.views.make import BatchedViews
    from stages.pretrain.views.settings import ViewSettings
    from stages.pretrain.views.short import standard_changes

    side, batch = options.size, options.batch
    compute = resolve_compute(options.device, "auto", False, world.size)
    rows = np.arange(batch * (WARM_UP + options.steps))
    images = np.random.default_rng(0).integers(0, 256, (len(rows), side, side, 3), dtype=np.uint8)
    changes = standard_changes({"crop_scale_min": 0.2, "flip": True, "jitter": 1.0, "grey": 0.2, "blur": 0.5})
    settings = ViewSettings(size=side, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, changes=changes)
    views = BatchedViews(images, [settings] * 2, 0, compute.device)
    device, nothing = torch.device(compute.device), np.full(len(rows), -1)
    epochs = PretrainingEpochs(1, batch, "random", rows, nothing, {}, views, 0, device, share=Share(world))
    torch.manual_seed(0)
    context = Context(len(rows), 0, len(rows) // batch, side, 3, settings.mean, settings.std, 0)
    method = SimCLR(build_backbone(options.backbone, 3, side), SimCLRParams(), context)
    method.to(device=device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(method.parameters(), 0.05, momentum=0.9)
    how = accelerated("auto", "auto", compute, method.capturable, processes=world.size)
    with compute.own_stream():
        around = exchanging(method, world)
        gradients = Gradients(method, shared_step(method, world), compute, how, world=world, around=around)
        epoch = epochs.epoch(0)
        for number in range(epochs.batches):
            if number == WARM_UP:
                _wait(compute.device)
                began = time.perf_counter()
            gradients(epoch.batch(number))
            optimizer.step()
        _wait(compute.device)
        return batch * options.steps / (time.perf_counter() - began)


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def contend(options: argparse.Namespace) -> None:
    """Be one contender, with as many processes as it has, and print its images a second."""
    from reprise.runtime.ranks.start import together

    with together(options.processes, options.device, [sys.executable, *sys.orig_argv[1:]]) as world:
        speed = images_per_second(options, world)
    if world.first:
        print(json.dumps(speed))


def turn(options: argparse.Namespace, processes: int, threads: int, torchrun: bool = False) -> float:
    """Start one contender and return its images a second."""
    names = ("backbone", "size", "batch", "steps", "device")
    given = [word for name in names for word in (f"--{name}", str(getattr(options, name)))]
    start = ["-m", "torch.distributed.run", "--nproc-per-node", "1"] if torchrun else []
    done = subprocess.run(
        [sys.executable, *start, "-m", "benchmarks.training.ranks", "--processes", str(processes), *given],
        env=os.environ | {"REPRISE_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        check=True,
        text=True,
    )
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def spread(values: list[float], digits: int) -> dict[str, float]:
    """Return median, lowest and highest."""
    found = {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, help="that are timed in a turn (default: 6 on a CPU, 300 on a GPU)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--processes", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.toy:
        vars(options).update(TOY)
    options.steps = options.steps or STEPS[options.device]
    if options.processes:
        contend(options)
        return
    count = max(2, cores())
    ways: dict[str, dict[str, Any]] = {"one": {"processes": 1, "threads": count}}
    if options.device == "cpu":
        ways["processes"] = {"processes": count, "threads": count}
    if options.device == "cuda" or options.toy:
        ways["torchrun"] = {"processes": 1, "threads": count, "torchrun": True}
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(options.rounds):
        for way, how in ways.items():
            speeds[way].append(turn(options, **how))
        print(f"round {number + 1}: { ({way: round(found[-1], 1) for way, found in speeds.items()}) }", file=sys.stderr)
    ratios = {way: [a / b for a, b in zip(speeds[way], speeds["one"], strict=True)] for way in ways if way != "one"}
    report = {
        "machine": machine(),
        "versions": versions(),
        "work": {**vars(options), "json": None, "processes": None},
        "images_per_second": {way: spread(found, 1) for way, found in speeds.items()},
        **{f"{way}_over_one": spread(found, 3) | {"limit": LEAST[way]} for way, found in ratios.items()},
    }
    tell(report, options.json)


if __name__ == "__main__":
    prepare_process()
    main()
