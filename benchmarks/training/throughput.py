"""Training throughput: the processor's limit, the real loop end to end, and lightly's loop, turn about in one run.

    python -m benchmarks.training.throughput [--data FOLDER] [--nets small resnet18] [--rounds 5] [--json FILE]
    python -m benchmarks.training.throughput --data PHOTOGRAPHS --side 224 --batch 32 --nets resnet18 --steps 8

`limit` repeats forward, backward and optimiser step on one fixed batch. `reprise` is the loop of stages.pretrain on
shards, decoded cache and views. `lightly` is the loop of lightly's examples (LightlyDataset, SimCLRTransform,
DataLoader with the better of 0 and 2 workers, NTXentLoss) on the same network, at the same precision on the small
net and in fp32, as users run it, on ResNet-18.

Every contender is a process group of its own, with the allocator and threads that it has in life. They take turns of
a few steps and are stopped (SIGSTOP, workers included) in between, so nobody prepares batches in another's time.
Ratios are taken within a round, so what slows the machine slows both sides; median, lowest and highest are printed.
A first round warms up and chooses the better number of lightly's workers; it does not count.

Without --data, pictures of the views' size are cut from scikit-learn's two photographs and stored as JPEG.
lightly is optional: pip install "reprise[bench]"; without it its rows are left out.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import importlib.util
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.parts.reports import tell
from reprise.runtime.entry import prepare_process, threads
from reprise.storage.provenance import machine, versions

ROOT = Path(__file__).resolve().parents[2]
SIDE, TEMPERATURE = 32, 0.5
ARCHITECTURES = {"small": "resnet20", "resnet18": "resnet18"}
STEPS = {"small": 8, "resnet18": 2}  # a turn: some seconds
PEER_PRECISION = {"small": "bf16", "resnet18": "fp32"}
VIEWS = {"crop_scale_min": 0.08, "flip": True, "jitter": 1.0, "grey": 0.2, "blur": 0.5, "solarize": 0.0}  # as lightly's
Tick = Callable[[int], None]


# ------------------------------------------------------------------------------------------------- the data
def cut_pictures(folder: Path, count: int, size: int) -> None:
    """`count` square JPEG files of `size` pixels: windows of two photographs at several scales, in two folders."""
    import cv2
    import numpy as np
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    for number, photo in enumerate(load_sample_images().images):
        (folder / str(number)).mkdir(parents=True)
        for i in range(count // 2):
            side = int(rng.integers(48, 256))
            top, left = (int(rng.integers(0, extent - side)) for extent in photo.shape[:2])
            cut = cv2.resize(photo[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(folder / str(number) / f"{i:06d}.jpg"), cut[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])


def make_workspace(pictures: Path, images: int) -> None:
    """In the current folder: shards, views, an empty label set, and links for lightly, of at most `images` pictures."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from reprise.artifacts.labels.label_sets import FILE, SCHEMA, write_pseudo_labels
    from reprise.artifacts.layout import MANIFEST, SHARDS
    from reprise.artifacts.manifest import read_manifest, write_manifest
    from reprise.artifacts.shards import Shards
    from reprise.storage.atomic import write_json
    from stages.ingest.ingest import ingest
    from stages.ingest.params import SourceParams
    from stages.ingest.sources.folder import Folder
    from stages.shard.params import ShardParams
    from stages.shard.write import write_shards

    MANIFEST.parent.mkdir(parents=True)
    source = SourceParams(name="folder", root=str(pictures), val_fraction=0.0, test_fraction=0.0)
    ingest(Folder(pictures, Folder.Params()), source, MANIFEST.parent, threads())
    table = read_manifest()
    train = table.filter(pc.equal(table["split"], "train")).slice(0, images)
    write_manifest(MANIFEST, train)
    write_json(MANIFEST.parent / "views.json", VIEWS)
    SHARDS.mkdir(parents=True)
    write_shards(train, ShardParams(), SHARDS, 1)
    rows = [{"key": k, "cluster": None, "distance": None, "confidence": None, "round": 0} for k in Shards.open().keys]
    write_pseudo_labels(Path("data/mine/none/0") / FILE, pa.Table.from_pylist(rows, SCHEMA))
    Path("loose/all").mkdir(parents=True)
    for row in train.to_pylist():
        os.symlink(os.path.abspath(row["path"]), f"loose/all/{row['key']}{Path(row['path']).suffix}")


# ------------------------------------------------------------------------------------------- the contenders
def run_reprise(net: str, batch: int, size: int, tick: Tick, limit: bool) -> None:
    """The loop of stages.pretrain, or (`limit`) its step on one batch of ready views."""
    import numpy as np
    import torch

    from reprise.config.params import ImageParams
    from reprise.config.plug_ins.registry import load_class
    from reprise.config.tables import RunRow
    from reprise.runtime.device import resolve_compute
    from reprise.training.optimization.optimizers import build_optimizer
    from reprise.training.params import TrainParams
    from stages.pretrain.inputs.images import read_inputs
    from stages.pretrain.method import Batch, Method
    from stages.pretrain.run import build_method, epochs_of, learn
    from stages.pretrain.setup import Setup

    image, epochs = ImageParams(size=size, channels=3), 100_000
    recipe = {"optimizer": "sgd", "learning_rate": 0.06, "weight_decay": 5e-4, "warmup_epochs": 10}
    params = TrainParams(
        backbone=ARCHITECTURES[net], epochs=epochs, batch_size=batch, precision="bf16", device="cpu", **recipe
    )
    compute = resolve_compute("cpu", "bf16")
    simclr = load_class("methods", "simclr", Method, "")
    row = RunRow(name="simclr", method="simclr", labels="none")
    setup = Setup(row, 0, image, params, simclr.Params(temperature=TEMPERATURE), compute)
    inputs = read_inputs(Path("data/mine/none/0/pseudo_labels.parquet"), setup, simclr)
    method = build_method(simclr, setup, inputs)
    passes = epochs_of(setup, method, inputs)
    if not limit:
        method.after_step = lambda progress: tick(batch)
        with tempfile.TemporaryDirectory() as work:
            learn(setup, method, inputs, passes, Path(work))
    ready = Batch(passes.views(np.arange(batch), 0, 0).pixels, torch.arange(batch))
    method.to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(method, params)
    while True:
        with compute.autocast():
            loss, _ = method.step(ready)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        tick(batch)


def run_lightly(net: str, batch: int, size: int, tick: Tick, workers: int) -> None:
    """The loop of lightly's SimCLR example on the same backbone and projector."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, RandomSampler

    from reprise.networks.backbone import build_backbone
    from reprise.networks.heads import Projector
    from reprise.networks.torchvision_schemas import ensure_torchvision_imports

    ensure_torchvision_imports()
    from lightly.data import LightlyDataset
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform

    torch.manual_seed(0)
    backbone = build_backbone(ARCHITECTURES[net], 3, size)
    model = nn.Sequential(backbone, Projector([backbone.num_features, 128, 128, 64])).train()
    dataset = LightlyDataset(input_dir="loose", transform=SimCLRTransform(input_size=size))
    endless = RandomSampler(dataset, replacement=True, num_samples=1 << 40)  # no epoch ends inside a turn
    loader = DataLoader(dataset, batch_size=batch, sampler=endless, drop_last=True, num_workers=workers)
    criterion = NTXentLoss(temperature=TEMPERATURE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06, momentum=0.9, weight_decay=5e-4)
    for views, _, _ in loader:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=PEER_PRECISION[net] == "bf16"):
            loss = criterion(model(views[0]), model(views[1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tick(batch)


def contend(kind: str, net: str, batch: int, size: int) -> None:
    """A contender's process: on a line "N" from its parent take N steps, answer with images a second, and wait."""
    steps, images, began = 0, 0, 0.0

    def tick(taken: int) -> None:
        nonlocal steps, images, began
        steps, images = steps - 1, images + taken
        if steps <= 0:
            if began:  # the very first step only warms up
                print(images / (time.perf_counter() - began), flush=True)
            line = sys.stdin.readline()
            if not line:
                os._exit(0)
            steps, images, began = int(line), 0, time.perf_counter()

    if not kind.startswith("lightly"):  # lightly runs as its users run it
        prepare_process()
    # PR_SET_PDEATHSIG, after prepare_process, which asks for a signal that a stopped process does not hear
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if kind.startswith("lightly"):
        run_lightly(net, batch, size, tick, int(kind.split()[1]))
    run_reprise(net, batch, size, tick, limit=kind == "limit")


class Contender:
    """A running contender: `turn` lets it take some steps; between turns its whole process group stands still."""

    def __init__(self, kind: str, net: str, batch: int, size: int) -> None:
        command = [
            sys.executable,
            "-m",
            "benchmarks.training.throughput",
            "--contend",
            kind,
            "--nets",
            net,
            "--batch",
            str(batch),
            "--side",
            str(size),
        ]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "REPRISE_THREADS": str(threads())}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.kind = kind
        self.process = subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)
        self.turn(1)

    def turn(self, steps: int) -> float:
        """Images a second over `steps` steps."""
        os.killpg(self.process.pid, signal.SIGCONT)
        print(steps, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.kind} ended with status {self.process.wait()}")
        os.killpg(self.process.pid, signal.SIGSTOP)
        return float(answer)

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


# ------------------------------------------------------------------------------------------------ the match
def compare(net: str, batch: int, size: int, rounds: int, steps: int, peer: bool) -> dict[str, Any]:
    """Images a second of every contender in every round, and the ratios of each round."""
    kinds = ["limit", "reprise", *(["lightly 0", "lightly 2"] if peer else [])]
    running: list[Contender] = []
    speeds: dict[str, list[float]] = {}
    try:
        running = [Contender(kind, net, batch, size) for kind in kinds]
        for number in range(rounds + 1):  # round 0 warms up: caches, allocators, clock rates
            for contender in running:
                speed = round(contender.turn(steps), 1)
                speeds.setdefault(contender.kind, []).append(speed)
                print(f"{net} round {number}: {contender.kind} {speed}", file=sys.stderr)
            if peer and number == 0:  # only the better number of workers goes on
                slower = min(("lightly 0", "lightly 2"), key=lambda kind: speeds[kind][0])
                next(c for c in running if c.kind == slower).end()
                running = [c for c in running if c.kind != slower]
    finally:
        for contender in running:
            contender.end()
    warming = {kind: turns.pop(0) for kind, turns in speeds.items()}
    speeds = {kind: turns for kind, turns in speeds.items() if turns}
    ratios = {"reprise / limit": spread(speeds["reprise"], speeds["limit"])}
    if peer:
        kept = next(c.kind for c in running if c.kind.startswith("lightly"))
        ratios[f"reprise / {kept} workers"] = spread(speeds["reprise"], speeds[kept])
    found = {"architecture": ARCHITECTURES[net], "precision": "bf16", "lightly's precision": PEER_PRECISION[net]}
    return found | {"images a second, warming up": warming, "images a second": speeds, "ratios": ratios}


def spread(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Median, lowest and highest ratio within a round."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    named = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
    return {name: round(value, 3) for name, value in named.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="images in a layout of the folder source")
    parser.add_argument("--images", type=int, default=10_000, help="at most so many")
    parser.add_argument("--nets", nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--side", type=int, default=SIDE, help="of the views, in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help=f"a turn; by default {STEPS}, some seconds at 32 pixels")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--contend", help=argparse.SUPPRESS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ended in order: nobody is left standing
    if options.contend:
        contend(options.contend, options.nets[0], options.batch, options.side)
    peer = importlib.util.find_spec("lightly") is not None
    report: dict[str, Any] = {
        "machine": machine(),
        "threads": threads(),
        "versions": versions() | ({"lightly": importlib.metadata.version("lightly")} if peer else {}),
        "batch": options.batch,
        "side": options.side,
        "steps a turn": options.steps or STEPS,
        "rounds": options.rounds,
    }
    data = options.data.resolve() if options.data else None
    with tempfile.TemporaryDirectory(prefix="reprise-bench-") as scratch:
        os.chdir(scratch)
        if data is None:
            data = Path("pictures").resolve()
            cut_pictures(data, options.images, options.side)
        make_workspace(data, options.images)
        for net in options.nets:
            report[net] = compare(net, options.batch, options.side, options.rounds, options.steps or STEPS[net], peer)
        os.chdir(ROOT)
    tell(report, options.json)


if __name__ == "__main__":
    main()
