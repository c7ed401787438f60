"""How much of a GPU's speed does `stages.pretrain` use? Its own loop against the same step on one fixed batch.

    python -m benchmarks.gpu [--part cifar,photos,resume,kmeans] [--json FILE]    # on a GPU, under eight minutes in all
    python -m benchmarks.gpu --toy                                                 # the same parts, small, on a CPU

`cifar` trains SimCLR with ResNet-18 on 50,000 images of 32 pixels, batch 512, and `photos` ResNet-50 and ViT-S/16 on
JPEG files of about 500 x 375 at 224 pixels, all in bf16 with two views of an image; once with files that are decoded
on the way, and once with images from the cache of decoded ones, on threads in both cases. `limit` repeats forward,
backward and optimiser on one batch of ready views: as Python starts it, as a CUDA graph, and compiled as well
(photographs: the first two, because compiling ResNet-50 takes a minute). Its first losses are shown too: they must
agree, because all of them compute the same step. `loop` is the stage itself, from shards to the
written backbone: seconds until its first step is done (the start of the process and of the compiler included), and
images a second from the first epoch's end to the last one's. `share` is loop / limit.

`resume` trains with `train.deterministic`, kills the process after a checkpoint, goes on, and compares weights and
history with those of an unbroken run; then again without, and says what the option costs. `kmeans` clusters the same
points on both devices.

Images are drawn (smooth colours and noise), because speed does not depend on what they show; `--cifar FILE.tar[.xz]`
takes real ones of 32 pixels, from `train/<class>/*.jpg` in it, and `--data FOLDER` real photographs (RGB JPEG files).
Every measurement is a process of its own that may fail without the others; what it prints is passed on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.parts.training_data import drawn, make_workspace, packed, photographs

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("cifar", "photos", "resume", "kmeans")
VIEWS = {"crop_scale_min": 0.2, "flip": True, "jitter": 0.5, "grey": 0.1, "blur": 0.0, "solarize": 0.0}
PHOTO_VIEWS = VIEWS | {"crop_scale_min": 0.08, "jitter": 1.0, "grey": 0.2, "blur": 0.5}  # SimCLR's on ImageNet
FIRST_LOSSES = 8  # steps whose losses the ways of computing are compared by
SECONDS = 420.0  # no measurement takes longer


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


CIFAR = Case("CIFAR-10, ResNet-18, batch 512", 50_000, 32, 32, 32, "resnet18", 512, 14)
RESNET = Case("224 px, ResNet-50, batch 128", 2048, 500, 375, 224, "resnet50", 128, 4, compiles=False, copies=4)
VIT = replace(RESNET, name="224 px, ViT-S/16, batch 128", backbone="vit_small_patch16_224")
SMALL = replace(CIFAR, name="resume, ResNet-18", images=10_240, epochs=4, checkpoint_steps=7)
TOY = Case("toy", 192, 32, 32, 32, "resnet_tiny", 64, 2)
TOY_PHOTOS = Case("toy photographs", 32, 120, 90, 96, "resnet_tiny", 16, 2, compiles=False)
TOY_RESUME = replace(TOY, name="toy, resumed", checkpoint_steps=2)


# ---------------------------------------------------------------------------------- one process a measurement
def prepared(case: Case, device: str) -> tuple[Any, ...]:
    """Row, image and train parameters, and the method's class and parameters, as the stage takes them."""
    from reprise.config.params import ImageParams
    from reprise.config.registry import load_class
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
    from reprise.training import records

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

    class Clock:
        def __init__(self, name: str) -> None: ...

        def __call__(self, epoch: int, figures: dict[str, float]) -> None:
            say("epoch", number=epoch, seconds=time.time() - began, **{k: figures[k] for k in ("loss", "rankme")})

    records.Records.begin, records.save_checkpoint, stage.LiveLog = first_step, checkpoint, Clock  # type: ignore[method-assign,assignment,misc]
    out = Path("data/runs/loop")
    stage.pretrain(row, 0, image, train, own, out, restart=False, cache=CacheParams(max_bytes=case.cache))
    config = json.loads((out / "config.json").read_text())
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest()[:16] for p in sorted(out.glob("*.[sc][as][fv]*"))}
    say("end", seconds=time.time() - began, notes=config["notes"], files=digests, memory=peak(device))


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
    from reprise.training.gradients import Acceleration, Gradients
    from reprise.training.optimizers import build_optimizer
    from stages.pretrain.inputs import read_inputs
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
    "loop": child_loop, "limit": child_limit, "kmeans": child_kmeans,
}  # fmt: skip


def measure(task: str, case: Case, device: str, folder: Path, cache: Path) -> list[dict[str, Any]]:
    """Run a task in a process of its own; return the lines that it said, and pass on whatever it printed."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--child", task, "--case", json.dumps(asdict(case))]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    environment |= {"TORCHINDUCTOR_CACHE_DIR": str(cache), "PYTHONUNBUFFERED": "1"}
    print(f"--- {task}: {case.name}, compile {case.compile}, deterministic {case.deterministic}", flush=True)
    said: list[dict[str, Any]] = []
    deadline = time.monotonic() + SECONDS
    with subprocess.Popen(
        [*command, "--device", device, "--began", str(time.time())],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            print(line.rstrip()[:600], flush=True)
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                said.append(event)
            if time.monotonic() > deadline:
                process.kill()
    print(f"--- {task} ended with status {process.wait()}", flush=True)
    return said


# ------------------------------------------------------------------------------------------------ the report
def speed_of(case: Case, said: list[dict[str, Any]]) -> dict[str, Any]:
    """First step, and images a second over the epochs after the first."""
    ends = [e["seconds"] for e in said if e["event"] == "epoch"]
    first = next((round(e["seconds"], 2) for e in said if e["event"] == "first step"), None)
    whole = next((e for e in said if e["event"] == "end"), {})
    spans = [later - sooner for sooner, later in pairwise(ends)]
    found: dict[str, Any] = {"seconds to the first step": first, "seconds in all": whole.get("seconds")}
    if spans:
        speeds = [case.images / span for span in spans]
        found["images a second"] = round(case.images * len(spans) / sum(spans))
        found["range"] = [round(min(speeds)), round(max(speeds))]
    return found | {"GiB": whole.get("memory"), "notes": whole.get("notes")}


def compared(case: Case, device: str, folder: Path, loops: dict[str, Case]) -> dict[str, Any]:
    """The limit, and each of the loops; the compiler starts from nothing the first time."""
    cache = folder / "compiled"
    limit = [e for e in measure("limit", case, device, folder, folder / "limit") if e["event"] == "limit"]
    names = {(False, False): "plain", (False, True): "graph", (True, False): "compiled", (True, True): "both"}
    speeds = {names[e["compiled"], e["graph"]]: statistics.median(e["images_per_second"]) for e in limit}
    found: dict[str, Any] = {"case": asdict(case), "limit": speeds, "steps": limit, "loop": {}}
    for name, this in loops.items():
        shutil.rmtree(folder / ".reprise/work", ignore_errors=True)
        speed = speed_of(this, measure("loop", this, device, folder, cache))
        if speed.get("images a second") and speeds:
            speed["share of the fastest limit"] = round(speed["images a second"] / max(speeds.values()), 3)
        found["loop"][name] = speed
    print(json.dumps({"case": case.name, "limit": speeds, "loop": found["loop"]}, indent=1), flush=True)
    return found


def resumed(case: Case, device: str, folder: Path) -> dict[str, Any]:
    """Weights and history of an unbroken and of a killed and resumed run, with and without `deterministic`."""
    found: dict[str, Any] = {}
    for deterministic in (True, False):
        files = []
        for kill_after in (0, 3):
            shutil.rmtree(folder / ".reprise/work", ignore_errors=True)
            this = replace(case, deterministic=deterministic, kill_after=kill_after)
            said = measure("loop", this, device, folder, folder / "compiled")
            if not kill_after:
                speed = speed_of(this, said)
            else:
                said = measure("loop", replace(this, kill_after=0), device, folder, folder / "compiled")
            files.append(next((e["files"] for e in said if e["event"] == "end"), None))
        equal = files[0] is not None and files[0] == files[1]
        found["deterministic" if deterministic else "not deterministic"] = {"equal": equal, **speed, "files": files}
    print(json.dumps(found, indent=1), flush=True)
    return found


def versions(device: str) -> dict[str, Any]:
    """Device and packages."""
    import torch

    from reprise.storage.provenance import machine
    from reprise.storage.provenance import versions as packages

    found = {"device": "cpu", "machine": machine(), "cores": len(os.sched_getaffinity(0)), "packages": packages()}
    if device == "cuda":
        found |= {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
        found["cudnn"] = torch.backends.cudnn.version()
    return found


def run_part(part: str, options: argparse.Namespace, device: str, folder: Path) -> Any:
    """One part of the report."""
    toy = options.toy

    def workspace(case: Case, views: dict[str, Any], files: list[bytes] | None = None) -> tuple[Case, Path]:
        place, since = folder / part, time.perf_counter()
        files = files or drawn(case.images, case.width, case.height) * case.copies
        make_workspace(place, files, views)
        mean = sum(map(len, files)) / len(files)
        print(f"{len(files)} files of {mean:.0f} bytes in {time.perf_counter() - since:.1f} s", flush=True)
        return replace(case, images=len(files)), place

    if part == "cifar":
        case, place = workspace(TOY if toy else CIFAR, VIEWS, packed(options.cifar) if options.cifar else None)
        ways = ("off",) if toy else ("off", "on")
        loops = {f"compile {way}": replace(case, compile=way.removesuffix(", again")) for way in ways}
        return compared(case, device, place, loops)
    if part == "photos":
        cases = [TOY_PHOTOS] if toy else [RESNET, VIT]
        case, place = workspace(cases[0], PHOTO_VIEWS, photographs(options.data) if options.data else None)
        found = []
        for this in (replace(this, images=case.images) for this in cases):
            loops = {"decoded on the way": replace(this, cache=0), "from the cache": this}
            if options.cached_only:
                del loops["decoded on the way"]
            found.append(compared(this, device, place, loops))
        return found
    if part == "resume":
        case, place = workspace(TOY_RESUME if toy else SMALL, VIEWS)
        return resumed(case, device, place)
    return measure("kmeans", TOY, device, folder, folder)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default=",".join(PARTS), help="one or several of these, with commas between")
    parser.add_argument("--toy", action="store_true", help="small, on a CPU")
    parser.add_argument("--cached-only", action="store_true", help="photographs: not those decoded on the way")
    parser.add_argument("--cifar", type=Path, help="an archive of real images of 32 pixels for the part `cifar`")
    parser.add_argument("--data", type=Path, help="a folder of photographs for the part `photos`")
    parser.add_argument("--json", type=Path)
    for hidden in ("--child", "--case", "--device", "--began"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        from reprise.runtime.entry import prepare_process

        prepare_process()
        CHILDREN[options.child](Case(**json.loads(options.case)), options.device, float(options.began))
        return {}
    parts = options.part.split(",")
    if wrong := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(wrong))}")
    import torch

    device = "cpu" if options.toy else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device: use --toy")
    found: dict[str, Any] = versions(device)
    print(json.dumps(found), flush=True)
    with tempfile.TemporaryDirectory(prefix="reprise-gpu-") as folder:
        for part in parts:
            since = time.perf_counter()
            try:
                found[part] = run_part(part, options, device, Path(folder))
            except Exception:  # noqa: BLE001 - the other parts go on
                traceback.print_exc()
            print(f"=== {part}: {time.perf_counter() - since:.1f} s", flush=True)
            if options.json:
                options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


if __name__ == "__main__":
    main()
