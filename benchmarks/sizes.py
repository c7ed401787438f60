"""The cost of every stage by image size: processor seconds and peak memory, and their slope over the number of images.

    python -m benchmarks.sizes FOLDER [--sizes 64 96 224] [--counts 200 400] [--shorter 375] [--json FILE]
    python -m benchmarks.sizes FOLDER --target

FOLDER holds photographs as FOLDER/train/<class> and FOLDER/test/<class>. For each size and count, a clone of this
repository takes that many of them (a sixth for the test split, the classes evenly) through its default graph, with
ResNet-18 and two epochs, from an empty cache. `--shorter` scales the shorter side of the files to so many pixels first,
so that decoding costs what it costs for files of that size.

The processes of the stages are watched while DVC runs them: processor seconds with their start and imports, seconds on
the clock, and the high-water mark of the resident memory, which counts mapped files too. Processor seconds depend less
on what else the machine does. The slope of a stage is its difference between the two counts, for each image more.

`--target` runs 1,200 photographs at 224 pixels once, with the threads that the machine gives, and holds it to the aim:
from the folder to the report in under 15 minutes, and under 4 GiB a stage.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil

from benchmarks.parts.reports import tell, tell_part
from reprise.storage.provenance import machine, versions

ROOT = Path(__file__).resolve().parents[1]
TARGET_SIDE, TARGET_COUNT, TARGET_MINUTES, TARGET_GIB = 224, 1200, 15.0, 4.0
POLL_SECONDS = 0.1
TRAIN_SHARE = 5 / 6
BATCH = 32  # images; two views of each at 224 pixels take under 3 GiB with a ResNet-18


class Watch(threading.Thread):
    """Looks at the processes that DVC starts in a folder, until it is stopped.

    Attributes:
        seen: by the stage's command: processor seconds, seconds on the clock, and peak memory in MiB.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.seen, self.over = str(folder.resolve()), {}, threading.Event()
        self.began: dict[int, float] = {}

    def run(self) -> None:
        while not self.over.wait(POLL_SECONDS):
            for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
                words = process.info["cmdline"] or []
                if process.info["cwd"] == self.folder and "stages/run.py" in words:
                    self.look(process, " ".join(words[words.index("stages/run.py") + 1 :]))

    def look(self, process: psutil.Process, name: str) -> None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
            times = process.cpu_times()
        except (OSError, psutil.Error):
            return
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        began = self.began.setdefault(process.pid, process.create_time())
        entry = self.seen.setdefault(name, {"processor": 0.0, "clock": 0.0, "mebibytes": 0.0})
        own = times.user + times.system + times.children_user + times.children_system
        entry["processor"] = max(entry["processor"], own)
        entry["clock"] = max(entry["clock"], time.time() - began)
        entry["mebibytes"] = max(entry["mebibytes"], int(peak[1]) / 1024 if peak else 0.0)


def photographs(source: Path, folder: Path, count: int, shorter: int | None) -> int:
    """Copy `count` files, the classes evenly, and return how many there were."""
    copied = 0
    for split, share in (("train", TRAIN_SHARE), ("test", 1 - TRAIN_SHARE)):
        classes = sorted(path for path in (source / split).iterdir() if path.is_dir())
        for path in classes:
            (folder / split / path.name).mkdir(parents=True)
            for file in sorted(path.iterdir())[: round(count * share / len(classes))]:
                copy(file, folder / split / path.name / file.name, shorter)
                copied += 1
    return copied


def copy(file: Path, target: Path, shorter: int | None) -> None:
    from PIL import Image

    if shorter is None:
        shutil.copyfile(file, target)
        return
    with Image.open(file) as image:
        by = shorter / min(image.size)
        sides = tuple(round(side * by) for side in image.size)
        image.convert("RGB").resize(sides, Image.Resampling.BICUBIC).save(target.with_suffix(".jpg"), quality=90)


def edited(text: str, root: Path, side: int, count: int, backbone: str) -> str:
    """Set what this benchmark needs in the text of params.yaml."""
    edits = {
        r"name: digits\b": "name: folder",
        r"root: data/images\b": f"root: {root}",
        r"(?m)^  size: 16\b": f"  size: {side}",
        r"(?m)^  backbone: resnet_tiny\b": f"  backbone: {backbone}",
        r"(?m)^  epochs: 60\b": "  epochs: 2",
        r"(?m)^  batch_size: 256\b": f"  batch_size: {BATCH}",
        r"(?m)^  warmup_epochs: 5\b": "  warmup_epochs: 0",
        r"clusters: 768\b": f"clusters: {max(8, count // 8)}",
    }
    for pattern, new in edits.items():
        text, times = re.subn(pattern, new, text, count=1)
        if times != 1:
            raise SystemExit(f"params.yaml has no line that fits {pattern}")
    return text


def measure(source: Path, side: int, count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Take photographs from the folder to the report once."""
    with tempfile.TemporaryDirectory(dir=options.scratch) as temporary:
        images, folder = Path(temporary) / "images", Path(temporary) / "clone"
        found = photographs(source, images, count, options.shorter)
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        (folder / "dvc.lock").unlink(missing_ok=True)  # else DVC would look for results that this machine lacks
        params = folder / "params.yaml"
        params.write_text(edited(params.read_text(), images, side, found, options.backbone), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(folder), "DVC_NO_ANALYTICS": "1"}
        environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        watch = Watch(folder)
        watch.start()
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-c", "from pipeline.cli.main import main; main()", "repro"],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        seconds = time.monotonic() - began
        watch.over.set()
        watch.join()
        report = (folder / "data/report/index.html").stat().st_size
    return {"side": side, "images": found, "seconds": seconds, "report": report, "stages": watch.seen}


def slopes(few: dict[str, Any], many: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return, for each stage, milliseconds and KiB for each image more, and the peak at the larger count in MiB."""
    more, found = many["images"] - few["images"], {}
    for name, after in many["stages"].items():
        before = few["stages"].get(name, defaultdict(float))
        found[name] = {
            "processor milliseconds an image": round(1000 * (after["processor"] - before["processor"]) / more, 2),
            "KiB an image": round(1024 * (after["mebibytes"] - before["mebibytes"]) / more, 1),
            "processor seconds": round(after["processor"], 1),
            "peak MiB": round(after["mebibytes"]),
        }
    return found


def against_target(result: dict[str, Any]) -> dict[str, Any]:
    """Hold a run against the aim."""
    largest = max(result["stages"].items(), key=lambda item: item[1]["mebibytes"])
    minutes, gibibytes = result["seconds"] / 60, largest[1]["mebibytes"] / 1024
    return {
        "minutes": round(minutes, 1),
        "processor minutes of the stages": round(sum(s["processor"] for s in result["stages"].values()) / 60, 1),
        "largest stage": largest[0],
        "GiB of the largest stage": round(gibibytes, 2),
        "MiB of the report": round(result["report"] / (1 << 20), 1),
        "reached": minutes < TARGET_MINUTES and gibibytes < TARGET_GIB,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="photographs: train/<class> and test/<class>")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96, 224], help="image.size, in pixels")
    parser.add_argument("--counts", type=int, nargs=2, default=[200, 400], help="photographs, few and many")
    parser.add_argument("--shorter", type=int, help="scale the files so that their shorter side has so many pixels")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--target", action="store_true", help="1,200 photographs at 224 pixels, once")
    parser.add_argument("--scratch", type=Path, help="folder for the clones; by default that of temporary files")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "versions": versions(), "backbone": options.backbone}
    report["load when it began"] = [round(load, 1) for load in os.getloadavg()]
    if options.target:
        result = measure(options.folder, TARGET_SIDE, TARGET_COUNT, options)
        report |= {"target": against_target(result), "run": result}
    else:
        for side in options.sizes:
            few, many = (measure(options.folder, side, count, options) for count in options.counts)
            report[f"{side} pixels"] = {"seconds": [round(r["seconds"], 1) for r in (few, many)]}
            report[f"{side} pixels"]["stages"] = slopes(few, many)
            tell_part({str(side): report[f"{side} pixels"]})
    tell(report, options.json)


if __name__ == "__main__":
    main()
