"""How much of a GPU's speed does `stages.pretrain` use? Its own loop against the same step on one fixed batch.

    python -m benchmarks.training.gpu [--part cifar,photos,resume,kmeans] [--json FILE]  # a GPU, under eight minutes
    python -m benchmarks.training.gpu --toy                                               # the same parts, small, a CPU

`cifar` trains SimCLR with ResNet-18 on 50,000 images of 32 pixels, batch 512, and `photos` ResNet-50 and ViT-S/16 on
JPEG files of about 500 x 375 at 224 pixels, all in bf16 with two views of an image; once with files that are decoded
on the way, and once with images from the cache of decoded ones, on threads in both cases. `limit` repeats forward,
backward and optimiser on one batch of ready views: as Python starts it, as a CUDA graph, and compiled as well
(photographs: the first two, because compiling ResNet-50 takes a minute). Its first losses are shown too: they must
agree, because all of them compute the same step. `loop` is the stage itself, from shards to the
written backbone: seconds until its first step is done (the start of the process and of the compiler included), and
images a second from the first epoch's end to the last one's. `share` is loop / limit.

`started as a copy` is the first step of a stage that `reprise repro` starts: a copy of a process that has loaded
the libraries.

`resume` trains with `train.deterministic`, kills the process after a checkpoint, goes on, and compares weights and
history with those of an unbroken run; then again without, and says what the option costs. `kmeans` clusters the same
points on both devices.

Images are drawn (smooth colours and noise), because speed does not depend on what they show; `--cifar FILE.tar[.xz]`
takes real ones of 32 pixels, from `train/<class>/*.jpg` in it, and `--data FOLDER` real photographs (RGB JPEG files).
Every measurement is a process of its own that may fail without the others; what it prints is passed on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.parts.gpu_measurements import CHILDREN, Case
from benchmarks.parts.training_data import drawn, make_workspace, packed, photographs

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("cifar", "photos", "resume", "kmeans")
VIEWS = {"crop_scale_min": 0.2, "flip": True, "jitter": 0.5, "grey": 0.1, "blur": 0.0, "solarize": 0.0}
PHOTO_VIEWS = VIEWS | {"crop_scale_min": 0.08, "jitter": 1.0, "grey": 0.2, "blur": 0.5}  # SimCLR's on ImageNet
SECONDS = 420.0  # no measurement takes longer


CIFAR = Case("CIFAR-10, ResNet-18, batch 512", 50_000, 32, 32, 32, "resnet18", 512, 14)
RESNET = Case(
    "224 px, ResNet-50, batch 128", 2048, 500, 375, 224, "resnet50", 128, 4, cache=12 << 30, compiles=False, copies=8
)
VIT = replace(RESNET, name="224 px, ViT-S/16, batch 128", backbone="vit_small_patch16_224")
SMALL = replace(CIFAR, name="resume, ResNet-18", images=10_240, epochs=4, checkpoint_steps=7)
TOY = Case("toy", 192, 32, 32, 32, "resnet_tiny", 64, 2)
TOY_PHOTOS = Case("toy photographs", 32, 120, 90, 96, "resnet_tiny", 16, 2, compiles=False)
TOY_RESUME = replace(TOY, name="toy, resumed", checkpoint_steps=2)


def measure(task: str, case: Case, device: str, folder: Path, cache: Path) -> list[dict[str, Any]]:
    """Run a task in a process of its own; return the lines that it said, and pass on whatever it printed."""
    command = [sys.executable, "-m", "benchmarks.training.gpu", "--child", task, "--case", json.dumps(asdict(case))]
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
        found: Any = compared(case, device, place, loops)
        shutil.rmtree(place / ".reprise/work", ignore_errors=True)
        said = measure("copied loop", replace(case, epochs=min(case.epochs, 2)), device, place, place / "compiled")
        found["started as a copy"] = speed_of(case, said)
        return found
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
