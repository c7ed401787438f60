"""What the ways to pass a large batch cost: seconds and peak memory of a step of SimCLR, each way in its own process.

    python -m benchmarks.training.large_batches [--backbone resnet18] [--size 224] [--batch 32] [--device cpu]
        [--json FILE]

Ways: the whole batch at once, its blocks computed twice, an eighth of its views at a time, both, and eight
micro-batches (docs/how-to/large-batches.md). Views are random numbers. Seconds are those of the faster of two steps
after a first one, of the processor on a CPU and on the clock on a GPU. Memory is the largest resident set of the
process, or on a GPU the most that torch allocated. `rest` is a process that takes steps of two images.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.parts.reports import tell
from reprise.runtime.entry import prepare_process
from reprise.storage.provenance import machine, versions

PARTS = 8


def ways(batch: int) -> dict[str, dict[str, Any]]:
    """Return the parameters of `train` that make each way."""
    chunk = {"chunk_size": max(1, 2 * batch // PARTS)}
    twice = {"activation_checkpointing": True}
    return {
        "rest": {},
        "whole": {},
        "activation_checkpointing": twice,
        "chunk_size": chunk,
        "both": chunk | twice,
        "accumulate": {"accumulate": PARTS},
    }


def step_of(backbone: str, size: int, batch: int, device: str, way: dict[str, Any]) -> dict[str, Any]:
    """Take three steps in this process, and return seconds, peak memory in bytes, and the precision."""
    import torch

    from reprise.networks.backbone import build_backbone
    from reprise.runtime.device import resolve_compute
    from reprise.training.optimization.gradients import Gradients, accelerated
    from reprise.training.params import TrainParams
    from stages.pretrain.method import Batch, Context
    from stages.pretrain.methods.contrastive.simclr import SimCLR, SimCLRParams
    from stages.pretrain.run import passes

    rest = {"epochs": 1, "optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.0, "warmup_epochs": 0}
    train = TrainParams(backbone=backbone, batch_size=batch, device=device, **rest, **way)
    compute = resolve_compute(train.device, train.precision, deterministic=False)
    context = Context(batch, 0, 3, size, 3, (0.5,) * 3, (0.5,) * 3, 0)
    method = SimCLR(build_backbone(backbone, 3, size), SimCLRParams(), context)
    method.to(device=compute.device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(method.parameters(), 0.1, momentum=0.9)
    plain = accelerated("off", "off", compute, capturable=True)
    gradients = Gradients(method, method.step, compute, plain, train.accumulate)
    views = [torch.randn(batch, 3, size, size, device=compute.device) for _ in range(2)]
    clock = time.perf_counter if compute.device == "cuda" else time.process_time  # a busy machine disturbs this less
    seconds = []
    with passes(method, train):
        for _ in range(3):
            began = clock()
            gradients(Batch(views, torch.arange(batch, device=compute.device)))
            optimizer.step()
            if compute.device == "cuda":
                torch.cuda.synchronize()
            seconds.append(clock() - began)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    peak = torch.cuda.max_memory_allocated() if compute.device == "cuda" else resident
    return {"seconds": min(seconds[1:]), "peak": peak, "precision": compute.precision, "device": compute.device}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        batch = 2 if options.way == "rest" else options.batch
        way = ways(options.batch)[options.way]
        print(json.dumps(step_of(options.backbone, options.size, batch, options.device, way)))
        return
    shared = ["--backbone", options.backbone, "--size", options.size, "--batch", options.batch]
    found: dict[str, Any] = {}
    for way in ways(options.batch):
        command = [sys.executable, "-m", "benchmarks.training.large_batches", *map(str, shared), "--way", way]
        done = subprocess.run([*command, "--device", options.device], capture_output=True, check=True, text=True)
        found[way] = json.loads(done.stdout.splitlines()[-1])
        print(way, found[way], file=sys.stderr, flush=True)
    figures = {
        way: {"seconds": round(result["seconds"], 2), "peak_mib": result["peak"] >> 20}
        for way, result in found.items()
        if way != "rest"
    }
    layers = {way: found[way]["peak"] - found["rest"]["peak"] for way in figures}
    tell(
        {
            "machine": machine(),
            "versions": versions(),
            "work": {**vars(options), "json": None, "way": None},
            "precision": found["whole"]["precision"],
            "ways": {
                way: figure
                | {
                    "seconds_over_whole": round(found[way]["seconds"] / found["whole"]["seconds"], 2),
                    "memory_over_whole_above_rest": round(layers[way] / layers["whole"], 2),
                }
                for way, figure in figures.items()
            },
        },
        options.json,
    )


if __name__ == "__main__":
    prepare_process()
    main()
