"""Are planted parts found? The miner `patterns` on drawn pictures whose classes differ by one small part.

    python -m studies.discovery.planted_parts [--seeds 3] [--images 1000] [--epochs 10]

Each picture shows shapes of random place, size and colour, and one part of 9 x 9 pixels at a random place: a cross, a
ring, a chequered square or stripes, which is the class. SimCLR is trained on them without labels and embedded with
`units: true`; the miner reads the peaks. Nothing learns from labels or boxes; they judge: in how many pictures that
have a label the box of its pattern covers the part with an intersection over union of 0.3 or more, and how well
the classes are told by kNN (k = 5) from which patterns are present, learned on one half and judged on the other.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SIZE, PART = 32, 9
KINDS = ("cross", "ring", "chequers", "stripes")
PATTERNS: dict[str, Any] = {"clusters": 8, "units": 5, "fires": 0.2, "present": 0.6, "extent": PART / SIZE}


def part(kind: str) -> np.ndarray:
    """Draw a part: (9, 9) of 0 and 1."""
    down, across = np.indices((PART, PART)) - PART // 2
    radius = np.hypot(down, across)
    drawn = {
        "cross": (abs(down) <= 1) | (abs(across) <= 1),
        "ring": (radius > 2.2) & (radius < 4.6),
        "chequers": ((down // 2) + (across // 2)) % 2 == 0,
        "stripes": (down + across) % 4 < 2,
    }
    return drawn[kind].astype(np.float64)


def picture(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    """Draw a picture (32, 32, 3) uint8, and say where the part begins."""
    pixels = np.full((SIZE, SIZE, 3), rng.uniform(60, 140, 3)) + rng.normal(0, 4, (SIZE, SIZE, 3))
    for _ in range(3):  # shapes without meaning: discs and boxes, darker or lighter
        down, across = np.indices((SIZE, SIZE)) - rng.uniform(0, SIZE, (2, 1, 1))
        size = rng.uniform(3, 7)
        inside = np.hypot(down, across) < size if rng.random() < 0.5 else np.maximum(abs(down), abs(across)) < size
        pixels[inside] = rng.uniform(50, 150, 3)
    top, left = rng.integers(0, SIZE - PART + 1, 2)
    place, drawn = pixels[top : top + PART, left : left + PART], part(kind)[:, :, None]
    place[:] = drawn * rng.uniform(200, 255, 3) + (1 - drawn) * rng.uniform(0, 40, 3)
    return np.clip(pixels, 0, 255).astype(np.uint8), (int(top), int(left))


def drawn(folder: Path, count: int, seed: int) -> dict[str, tuple[int, int]]:
    """Write pictures in folders of their classes; return where the part of each begins, by file."""
    from PIL import Image

    rng, places = np.random.default_rng(seed), {}
    for number in range(count):
        file = folder / "train" / KINDS[number % len(KINDS)] / f"{number:05d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels, places[file.name] = picture(file.parent.name, rng)
        Image.fromarray(pixels).save(file)
    return places


def embedded(seed: int, epochs: int) -> None:
    """Train SimCLR by the stage `pretrain` in the current folder, and embed it with the peaks of its units."""
    from reprise.artifacts.layout import embedding
    from reprise.artifacts.layout import run as folder_of
    from reprise.config.params import ImageParams
    from reprise.config.plug_ins.registry import load_class
    from reprise.config.tables import RunRow
    from reprise.training.params import TrainParams
    from stages.embed.embedding import embed
    from stages.embed.params import EmbedParams
    from stages.pretrain.method import Method
    from stages.pretrain.run import pretrain

    shared: dict[str, Any] = {
        "backbone": "resnet_tiny", "epochs": epochs, "batch_size": 128, "optimizer": "sgd", "learning_rate": 0.4,
        "weight_decay": 1e-4, "warmup_epochs": 1, "checkpoint_steps": 10_000, "on_collapse": "warn",
        "precision": "fp32", "views": [{"name": "crop", "scale_min": 0.4}, {"name": "colour", "strength": 0.5}, "grey"],
    }  # fmt: skip
    params = load_class("methods", "simclr", Method, "").Params.model_validate({"temperature": 0.2})
    image, train = ImageParams(size=SIZE, channels=3), TrainParams.model_validate(shared)
    row = RunRow(name="simclr", method="simclr", labels="none")
    pretrain(row, seed, image, train, params, folder_of("simclr", seed), restart=True)
    embed("simclr", seed, EmbedParams(augmented=0, units=True), embedding("simclr", seed), restart=True)


def judged(seed: int, places: dict[str, tuple[int, int]]) -> dict[str, float]:
    """Mine by the stage `mine`, and compare with the parts that were drawn."""
    from reprise.artifacts.labels.label_sets import read_pseudo_labels
    from reprise.artifacts.labels.parts import EDGES, read_parts
    from reprise.artifacts.layout import label_set
    from reprise.artifacts.manifest import read_manifest
    from reprise.config.plug_ins.registry import load_class
    from reprise.config.tables import MineRow
    from reprise.measures.nearest.neighbours import classify
    from stages.mine.label_sets.label_set import mine
    from stages.mine.miner import Miner

    kind, out = load_class("miners", "patterns", Miner, ""), label_set("parts", seed)
    row = MineRow(name="parts", miner="patterns", on="embed/simclr")
    mine(row, kind, kind.Params.model_validate(PATTERNS), seed, out, restart=True)
    manifest = {entry["key"]: entry for entry in read_manifest().to_pylist()}
    labels = read_pseudo_labels(out / "pseudo_labels.parquet").to_pylist()
    parts = {(entry["key"], entry["pattern"]): entry for entry in read_parts(out / "parts.parquet").to_pylist()}
    overlaps = []
    for entry in labels:
        if entry["cluster"] is not None:
            found = [parts[entry["key"], entry["cluster"]][edge] * SIZE for edge in EDGES]
            overlaps.append(overlap(found, places[Path(manifest[entry["key"]]["path"]).name]))
    keys = [entry["key"] for entry in labels]
    present = np.zeros((len(keys), 1 + max(pattern for _, pattern in parts)), dtype=np.float32)
    position = {key: row for row, key in enumerate(keys)}
    for (key, pattern), entry in parts.items():
        present[position[key], pattern] = entry["presence"]
    y = np.array([KINDS.index(manifest[key]["label"]) for key in keys])
    half = len(y) // 2
    told = classify(present[half:], present[:half], y[:half], len(KINDS), 5, 0.07)[0]
    return {
        "labelled": 100 * len(overlaps) / len(labels),
        "covered": 100 * float((np.array(overlaps) >= 0.3).mean()),
        "told": 100 * float((told == y[half:]).mean()),
    }


def overlap(box: list[float], place: tuple[int, int]) -> float:
    """Return the intersection over union of a box (pixels: top, left, bottom, right) and a part."""
    top, left = place
    down = max(0.0, min(box[2], top + PART) - max(box[0], top))
    across = max(0.0, min(box[3], left + PART) - max(box[1], left))
    both = down * across
    return both / ((box[2] - box[0]) * (box[3] - box[1]) + PART**2 - both)


def main() -> None:
    """Draw, train, mine and judge for every seed."""
    from studies.views import make_workspace

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    print(
        "| seed | pictures with a label % | of these, IoU of 0.3 or more % | class told by the patterns % (chance 25) |"
    )
    print("|---|---|---|---|")
    for seed in range(options.seeds):
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="reprise-parts-") as scratch:
            os.chdir(scratch)
            places = drawn(Path("pictures"), options.images, seed)
            make_workspace(Path("pictures").resolve())
            embedded(seed, options.epochs)
            found = judged(seed, places)
            os.chdir("/")
        print(f"| {seed} | {found['labelled']:.0f} | {found['covered']:.0f} | {found['told']:.0f} |", flush=True)
        print(f"seed {seed}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
