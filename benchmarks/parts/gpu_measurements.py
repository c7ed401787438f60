"""The measurements of `benchmarks.training.gpu`, each in a process of its own: the limit, the loop, k-means.

A measurement says what it finds in lines of JSON, which the process that started it reads.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIRST_LOSSES = 8  # steps whose losses the ways of computing are compared by


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        name: for the report.
        images, width, height: how many files, and their size in pixels.
        size: of the views.
        backbone, batch, epochs, method: of the run.
        compile, graph, deterministic: as in `train`.
        kill_after: checkpoints after which the process kills itself; 0 for never.
        checkpoint_steps: as in `train`.
        cache: bytes that decoded images may take.
        compiles: measure the limit of compiled networks too.
        copies: how often each image occurs, so that an epoch is long and its images are made soon.
    """

    name: str
    images: int
    width: int
    height: int
    size: int
    backbone: str
    batch: int
    epochs: int
    method: str = "simclr"
    compile: str = "off"
    graph: str = "auto"
    deterministic: bool = False
    kill_after: int = 0
    checkpoint_steps: int = 200
    cache: int = 8 << 30
    compiles: bool = True
    copies: int = 1


def prepared(case: Case, device: str) -> tuple[Any, ...]:
    """Row, image and train parameters, and the method's class and parameters, as the stage takes them."""
    from reprise.config.params import ImageParams
    from reprise.config.plug_ins.registry import load_class
    from reprise.config.tables import RunRow
    from reprise.training.params import TrainParams
    from stages.pretrain.method import Method

    recipe = {"optimizer": "sgd", "learning_rate": 0.06, "weight_decay": 5e-4, "warmup_epochs": 1}
    if case.backbone.startswith("vit"):
        recipe = {"optimizer": "adamw", "learning_rate": 5e-4, "weight_decay": 0.05, "warmup_epochs": 1}
    names = ("backbone", "epochs", "compile", "graph", "deterministic", "checkpoint_steps")
    train = TrainParams(
        batch_size=case.batch,
        device=device,
        precision="bf16",
        on_collapse="warn",
        **{name: getattr(case, name) for name in names},
        **recipe,
    )
    kind = load_class("methods", case.method, Method, "")
    wide = {} if device == "cpu" else {"hidden": 1024, "output": 128, "layers": 2}
    own = kind.Params(**wide) if case.method == "simclr" else kind.Params()
    row = RunRow(name=case.method, method=case.method, labels="none")
    return row, ImageParams(size=case.size, channels=3), train, kind, own


def say(event: str, **figures: Any) -> None:
    """A line for the process that started this one."""
    print(json.dumps({"event": event, **figures}), flush=True)


def child_loop(case: Case, device: str, began: float) -> None:
    """The stage itself; tells when its first step, and every epoch, is done."""
    import stages.pretrain.run as stage
    from reprise.config.shared_sections import CacheParams
    from reprise.training.history import records

    row, image, train, _, own = prepared(case, device)
    begin, save, saved = records.Records.begin, records.save_checkpoint, 0

    def first_step(self: Any, logs: Any) -> None:
        begin(self, logs)  # on a GPU it waits for the figures of the step
        say("first step", seconds=time.time() - began)

    def checkpoint(*arguments: Any) -> Any:
        nonlocal saved
        path, saved = save(*arguments), saved + 1
        if saved == case.kill_after:
            os.kill(os.getpid(), 9)
        return path

    class Clock(stage.LiveLog):
        def __call__(self, epoch: int, figures: dict[str, float]) -> None:
            super().__call__(epoch, figures)
            say("epoch", number=epoch, seconds=time.time() - began, **{k: figures[k] for k in ("loss", "rankme")})

    records.Records.begin, records.save_checkpoint, stage.LiveLog = first_step, checkpoint, Clock  # type: ignore[method-assign,assignment,misc]
    out = Path("data/runs/loop")
    stage.pretrain(row, 0, image, train, own, out, restart=False, cache=CacheParams(max_bytes=case.cache))
    config = json.loads((out / "config.json").read_text())
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest()[:16] for p in sorted(out.glob("*.[sc][as][fv]*"))}
    say("end", seconds=time.time() - began, notes=config["notes"], files=digests, memory=peak(device))


def child_copied_loop(case: Case, device: str, began: float) -> None:
    """The stage as `reprise repro` starts it: as a copy of a process that has loaded the libraries before."""
    from pipeline.graph.in_dvc.stages_in_copies.libraries import LIBRARIES, load_next

    rest = list(LIBRARIES)
    while rest:
        load_next(rest)
    pid = os.fork()
    if pid == 0:
        try:
            child_loop(case, device, time.time())
        except BaseException:  # noqa: BLE001 - the copy must not return into what the first process goes on with
            traceback.print_exc()
        os._exit(0)
    os.waitpid(pid, 0)


def peak(device: str) -> float | None:
    """GiB of the GPU that tensors took at most."""
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**30, 2) if device == "cuda" else None


def child_limit(case: Case, device: str, began: float) -> None:
    """Forward, backward and optimiser on one batch of ready views, each way in turn from the same weights."""
    import copy

    import numpy as np
    import torch

    from reprise.runtime.device import resolve_compute
    from reprise.runtime.seeds import seed_torch
    from reprise.training.optimization.gradients import Acceleration, Gradients
    from reprise.training.optimization.optimizers import build_optimizer
    from stages.pretrain.inputs.images import read_inputs
    from stages.pretrain.method import Batch
    from stages.pretrain.run import build_method, epochs_of
    from stages.pretrain.setup import Setup

    row, image, train, kind, own = prepared(case, device)
    compute = resolve_compute(device, "bf16", False)
    setup = Setup(row, 0, image, train, own, compute)
    inputs = read_inputs(Path("data/mine/none/0/pseudo_labels.parquet"), setup, kind)
    method = build_method(kind, setup, inputs)
    views = epochs_of(setup, method, inputs).views(np.arange(case.batch), 0, 0).pixels
    batch = Batch([view.to(device) for view in views], torch.arange(case.batch, device=device))
    method.to(device=device, memory_format=torch.channels_last).train()
    start = copy.deepcopy(method.state_dict())

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def measure(compiled: bool, graph: bool) -> None:
        method.load_state_dict(start)
        optimizer = build_optimizer(method, train, method.parameter_groups(), case.batch)
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] / 10
        gradients = Gradients(method, method.step, compute, Acceleration(compiled, graph))
        losses, chunks, started = [], [], time.perf_counter()

        def step() -> None:
            loss, _ = gradients(batch)
            method.after_backward(0.5)
            optimizer.step()
            method.after_step(0.5)
            if len(losses) < FIRST_LOSSES:
                losses.append(loss.clone())

        with compute.own_stream():
            for number in range(FIRST_LOSSES):
                seed_torch(0, number)
                step()
            wait()
            warm, count = time.perf_counter() - started, 0
            while len(chunks) < 5:
                count, since = 0, time.perf_counter()
                while count == 0 or time.perf_counter() - since < (0.6 if device == "cuda" else 0.2):
                    for _ in range(10 if device == "cuda" else 1):
                        step()
                    wait()
                    count += 10 if device == "cuda" else 1
                chunks.append(count * case.batch / (time.perf_counter() - since))
        say(
            "limit", compiled=compiled, graph=graph, warm_up=round(warm, 1), notes=gradients.notes,
            images_per_second=[round(v, 1) for v in chunks], losses=[round(float(v), 5) for v in losses],
        )  # fmt: skip

    ways = [(False, False), (False, True), (True, True)] if device == "cuda" else [(False, False)]
    ways = ways if case.compiles else [way for way in ways if not way[0]]
    for compiled, graph in ways:
        try:
            measure(compiled, graph)
        except Exception:  # noqa: BLE001 - the other ways go on
            traceback.print_exc()


def child_kmeans(case: Case, device: str, began: float) -> None:
    """K-means of the same points on both devices: seconds, and whether the clusters are the same."""
    import numpy as np

    from reprise.clustering.kmeans import kmeans

    rng = np.random.default_rng(0)
    n, d, k = (50_000, 128, 1000) if device == "cuda" else (2000, 16, 20)
    points = (rng.standard_normal((k, d))[rng.integers(0, k, n)] + rng.standard_normal((n, d))).astype(np.float32)
    found = {}
    for place in dict.fromkeys(("cpu", device)):
        for _ in range(1 if place == "cpu" else 2):  # the first one on a GPU loads its libraries
            since = time.perf_counter()
            found[place] = kmeans(points, k, 20, 1, np.random.default_rng(1), device=place)
            seconds = time.perf_counter() - since
        say("kmeans", device=place, rows=n, width=d, clusters=k, seconds=round(seconds, 3))
    say("kmeans", equal=bool(np.array_equal(found["cpu"], found[device])),
        farthest=float(np.abs(found["cpu"] - found[device]).max()))  # fmt: skip


CHILDREN: dict[str, Callable[[Case, str, float], None]] = {
    "loop": child_loop, "copied loop": child_copied_loop, "limit": child_limit, "kmeans": child_kmeans,
}  # fmt: skip
