"""Near-copies planted among real files: how many ingest finds, what else it flags, and what that costs.

`python -m benchmarks.near_copies FOLDER --montage pairs.png` takes the folders FOLDER/train/<class> and
FOLDER/test/<class> (CIFAR-10 as files, say), makes near-copies of 3 % of the files, a quarter of each kind, puts them
at random into train or test, and takes everything in. Pairs without a planted image are the data set's own: the montage
shows fifty of them, for a person to judge. With `--times N` it also searches N sketches, made from those of the files,
to see how time and memory grow.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from reprise.artifacts.near_copies import read_near_copies
from reprise.media.image.sketch import SIDE, sketch
from reprise.storage.provenance import machine
from stages.ingest import ingest as ingesting
from stages.ingest.load import load_source
from stages.ingest.near.policy import settle
from stages.ingest.near.search import find_near_copies

SHARE = 0.03
CELL, SHOWN, COLUMNS = 96, 50, 5


def brightness(image: Image.Image, dice: random.Random) -> Image.Image:
    """Multiply by a factor of 0.8 to 1.25."""
    factor = dice.uniform(0.8, 1.25)
    return image.point([min(255, round(value * factor)) for value in range(256)] * len(image.getbands()))


def jpeg(image: Image.Image, dice: random.Random) -> Image.Image:
    """Compress at quality 70."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    return Image.open(buffer)


def shift(image: Image.Image, dice: random.Random) -> Image.Image:
    """Move by one pixel along an axis; the edge is repeated."""
    pixels = np.asarray(image)
    axis, step = dice.randrange(2), dice.choice((-1, 1))
    moved = np.roll(pixels, step, axis)
    edge = 0 if step == 1 else -1
    np.moveaxis(moved, axis, 0)[edge] = np.moveaxis(pixels, axis, 0)[edge]
    return Image.fromarray(moved)


def resize(image: Image.Image, dice: random.Random) -> Image.Image:
    """Scale to half the size and back."""
    width, height = image.size
    small = image.resize((width // 2, height // 2), Image.Resampling.BILINEAR)
    return small.resize((width, height), Image.Resampling.BILINEAR)


KINDS = {"brightness": brightness, "JPEG 70": jpeg, "one-pixel shift": shift, "half the size and back": resize}


def plant(source: Path, root: Path, seed: int) -> dict[str, tuple[str, str]]:
    """Link all files below `root`, add near-copies, and return name of the copy -> name of its original, kind."""
    names = sorted(str(path.relative_to(source)) for path in source.glob("*/*/*") if path.is_file())
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source / name, root / name)
        except OSError:  # another file system
            (root / name).write_bytes((source / name).read_bytes())
    dice = random.Random(seed)
    planted = {}
    for number, name in enumerate(dice.sample(names, round(SHARE * len(names)))):
        kind = list(KINDS)[number % len(KINDS)]
        copy = f"{dice.choice(('train', 'test'))}/{Path(name).parts[1]}/copy-{number}.png"
        with Image.open(source / name) as image:
            KINDS[kind](image.convert("RGB"), dice).save(root / copy)
        planted[copy] = (name, kind)
    return planted


def take_in(root: Path, output: Path, workers: int) -> dict[str, Any]:
    """Ingest, with the seconds of the search for near-copies apart."""
    seconds: dict[str, float] = {}

    def timed(*arguments: Any) -> Any:
        began, used = time.perf_counter(), time.process_time()
        try:
            return settle(*arguments)
        finally:
            seconds.update(search=time.perf_counter() - began, search_processor=time.process_time() - used)

    setattr(ingesting, "settle", timed)  # noqa: B010 - mypy knows a function's name as its own
    source, params = load_source({"source": {"name": "folder", "root": str(root), "near_copies": "report"}})
    began = time.perf_counter()
    card = ingesting.ingest(source, params, output, workers)
    return {"card": card["near_copies"], "kept": card["kept"], "ingest": time.perf_counter() - began, **seconds}


def judge(rows: list[dict[str, Any]], planted: dict[str, tuple[str, str]], root: Path, kept: int) -> dict[str, Any]:
    """Count what was found of each kind, and what was flagged besides."""
    pairs = {frozenset(str(Path(row[c]).relative_to(root)) for c in ("path", "other_path")) for row in rows}
    wanted = Counter(kind for _, kind in planted.values())
    found = Counter(kind for copy, (name, kind) in planted.items() if frozenset((copy, name)) in pairs)
    own = [pair for pair in pairs if not pair & planted.keys()]
    flagged = {name for pair in own for name in pair}
    across = sum(len({name.split("/")[0] for name in pair}) == 2 for pair in own)
    return {
        "found": {kind: f"{found[kind]} of {wanted[kind]} ({found[kind] / wanted[kind]:.1%})" for kind in KINDS},
        "own": {"pairs": len(own), "images": len(flagged), "share": round(len(flagged) / kept, 5), "across": across},
        "shown": [sorted(pair) for pair in sorted(own, key=sorted)],
    }


def draw(pairs: list[list[str]], root: Path, path: Path, seed: int) -> None:
    """Draw pairs side by side, numbered."""
    chosen = random.Random(seed).sample(pairs, min(SHOWN, len(pairs)))
    rows = -(-len(chosen) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (2 * CELL + 16), rows * (CELL + 20)), "white")
    for number, pair in enumerate(chosen):
        x, y = number % COLUMNS * (2 * CELL + 16), number // COLUMNS * (CELL + 20)
        crossing = " train/test" if len({name.split("/")[0] for name in pair}) == 2 else ""
        ImageDraw.Draw(sheet).text((x, y + 2), f"{number + 1}{crossing}", "black")
        for side, name in enumerate(pair):
            with Image.open(root / name) as image:
                sheet.paste(
                    image.convert("RGB").resize((CELL, CELL), Image.Resampling.NEAREST), (x + side * CELL, y + 16)
                )
    sheet.save(path)


def grow(source: Path, images: int, seed: int) -> dict[str, Any]:
    """Search so many sketches: those of the files, mirrored, turned, and mixed by halves so that none is a copy."""
    files = sorted(source.glob("*/*/*"))
    own = np.stack([np.frombuffer(sketch(np.asarray(Image.open(f).convert("RGB"))), np.uint8) for f in files])
    own = own.reshape(-1, SIDE, SIDE)
    dice = np.random.default_rng(seed)
    with tempfile.TemporaryFile() as file:
        sketches = np.memmap(file, np.uint8, "w+", shape=(images, SIDE, SIDE))
        for start in range(0, images, len(own)):
            a, b = dice.permutation(len(own)), dice.permutation(len(own))
            mixed = (own[a].astype(np.uint16) + np.rot90(own[b], int(dice.integers(4)), (1, 2)) + 1) // 2
            sketches[start : start + len(own)] = mixed[: images - start]
        sizes, groups = np.full((images, 2), SIDE), np.full(images, -1)
        began, used = time.perf_counter(), time.process_time()
        found = find_near_copies(lambda rows: sketches[rows], sizes, groups)
        return {
            "images": images,
            "pairs": len(found.pairs),
            "seconds": round(time.perf_counter() - began, 1),
            "processor": round(time.process_time() - used, 1),
            "peak MiB, the sketches' pages included": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }


def main() -> None:
    """Plant, take in, count, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="files as split/class/file")
    parser.add_argument("--montage", type=Path, help="draw fifty of the data set's own pairs")
    parser.add_argument("--times", type=int, default=0, help="also search so many sketches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.folder is None:
        print("near_copies: give a folder of images as split/class/file, for instance CIFAR-10")
        return
    with tempfile.TemporaryDirectory(dir=args.folder.parent) as place:
        root, output = Path(place) / "images", Path(place) / "output"
        output.mkdir()
        planted = plant(args.folder, root, args.seed)
        result = {"machine": machine(), "workers": args.workers, **take_in(root, output, args.workers)}
        rows = read_near_copies(output / "near_copies.parquet").to_pylist()
        result |= judge(rows, planted, root, result["kept"])
        pairs = result.pop("shown")
        if args.montage:
            draw(pairs, root, args.montage, args.seed)
    if args.times:
        result["grown"] = grow(args.folder, args.times, args.seed)
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
