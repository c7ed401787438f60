"""Is it the right invariance that transfers? Networks trained on drawn objects under known transformations.

    nice -n 10 python -m studies.transforms2d [--out FOLDER] [--sets 10] [--images 600] [--epochs 6] [--size 16]

All networks are trained with the labels (the method `supervised`), as in Speicher et al. 2024, on the source
`transforms2d`, one after the other in this process, without any change of views. Two questions:

*Transfer.* A set draws three of the eighteen transformations for its target, and three others. One network is trained
under the target's own transformations and one under the others, both on ten objects; a linear classifier on their
frozen features then learns ten other objects under the target's transformations. Which of the two is better?

*Invariance.* One network is trained under each of ten transformations, and one under none. How far does each
transformation move the features of each network (over the distance of two pictures)? Pictures are pairs that differ in
the values of the transformation alone, of the objects that the networks know.

Written: `transforms2d.json` with every figure, and `transforms2d.md` with the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.paired import said

if TYPE_CHECKING:
    from reprise.backbones.loaded import LoadedBackbone

SINGLE = ("translate", "rotate", "scale", "shear", "hue", "grayscale", "blur", "noise", "pixelate", "erasing")
OBJECTS = 10  # classes of every data set
TARGET, HELD_OUT = 600, 400  # pictures that a linear classifier learns from, and is scored on
PAIRS = 150
PENALTY = 1e-3
Options = dict[str, Any]


def drawing(options: Options) -> Any:
    """Return the source with these options."""
    from reprise.config.plug_ins.registry import load_class
    from stages.ingest.source import Source

    source_class: Any = load_class("sources", "transforms2d", Source, "")  # type: ignore[type-abstract]
    return source_class(Path("."), source_class.Params(**options))


def pretrained(options: Options, epochs: int, seed: int) -> LoadedBackbone:
    """Ingest and pack one data set in a folder of its own, train on its labels, and load the backbone."""
    import pyarrow as pa

    from reprise.artifacts.labels.label_sets import FILE, SCHEMA, write_pseudo_labels
    from reprise.artifacts.layout import INGEST, SHARDS, label_set
    from reprise.artifacts.layout import run as folder_of
    from reprise.artifacts.manifest import read_manifest
    from reprise.backbones.loaded import load_backbone
    from reprise.config.params import ImageParams
    from reprise.config.plug_ins.registry import load_class
    from reprise.config.tables import RunRow
    from reprise.runtime.entry import threads
    from reprise.training.params import TrainParams
    from stages.ingest.ingest import ingest
    from stages.ingest.params import SourceParams
    from stages.pretrain.method import Method
    from stages.pretrain.run import pretrain
    from stages.shard.params import ShardParams
    from stages.shard.write import write_shards

    before = Path.cwd()
    os.chdir(tempfile.mkdtemp(dir=before))
    INGEST.mkdir(parents=True)
    params = SourceParams(name="transforms2d", root=".", val_fraction=0.0, test_fraction=0.0)
    ingest(drawing(options), params, INGEST, threads())
    SHARDS.mkdir(parents=True)
    write_shards(read_manifest(), ShardParams(), SHARDS, 1)
    rows = read_manifest(columns=["key", "label"]).to_pylist()
    names = sorted({row["label"] for row in rows})
    listed = [
        {"key": row["key"], "cluster": names.index(row["label"]), "distance": None, "confidence": None, "round": 0}
        for row in rows
    ]
    write_pseudo_labels(label_set("truth", seed) / FILE, pa.Table.from_pylist(listed, SCHEMA))
    shared: dict[str, Any] = {
        "backbone": "resnet_tiny", "epochs": epochs, "batch_size": 30, "optimizer": "adamw", "learning_rate": 0.003,
        "learning_rate_scaling": "none", "weight_decay": 0.01, "warmup_epochs": 1, "checkpoint_steps": 10_000,
        "on_collapse": "warn",
    }  # fmt: skip
    image = ImageParams(size=options["size"], channels=3)
    whole = {"views": [{"name": "crop", "scale_min": 1.0}]}
    method = load_class("methods", "supervised", Method, "").Params.model_validate(whole)
    row = RunRow(name="supervised", method="supervised", labels="truth")
    folder = folder_of("supervised", seed)
    pretrain(row, seed, image, TrainParams.model_validate(shared), method, folder, restart=True)
    backbone = load_backbone(folder)
    os.chdir(before)
    return backbone


def pictures(options: Options, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Draw the first pictures of a data set, and number their classes."""
    drawn = [drawing(options).picture(i) for i in range(count)]
    names = sorted({label for _, label, _ in drawn})
    return [pixels for pixels, _, _ in drawn], np.array([names.index(label) for _, label, _ in drawn])


def features(backbone: LoadedBackbone, images: list[np.ndarray]) -> np.ndarray:
    """Return the (n, d) features of pictures."""
    import torch

    with torch.no_grad():
        return np.concatenate(
            [backbone(backbone.prepare(images[i : i + 200])).numpy() for i in range(0, len(images), 200)]
        )


def transfer(number: int, base: Options, epochs: int) -> dict[str, Any]:
    """Return the accuracy on the target after training under its own transformations, and under others."""
    from reprise.measures.linear import Problem
    from stages.ingest.drawn.transformations import NAMES

    names = np.random.default_rng([number, 17]).permutation(len(NAMES))
    own, others = ([NAMES[i] for i in part] for part in (names[:3], names[3:6]))
    world = {**base, "object_seed": 1000 + number, "seed": number}
    target = {**world, "first": OBJECTS, "transformations": own, "seed": 500 + number}
    images, y = pictures(target, TARGET + HELD_OUT)
    found: dict[str, Any] = {"own": own, "others": others}
    for relation, chosen in (("same", own), ("disjoint", others)):
        backbone = pretrained({**world, "transformations": chosen}, epochs, number)
        x = features(backbone, images)
        classifier = Problem(x[:TARGET], y[:TARGET]).fit(PENALTY)
        found[relation] = 100 * float((classifier.predict(x[TARGET:])[0] == y[TARGET:]).mean())
    return found


def invariance(base: Options, epochs: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each of the transformations trained under, with the normalised distance under each one measured."""
    from reprise.measures.invariance import apart, moved, normalised_distance

    world = {**base, "object_seed": 2000, "seed": 0}
    pairs = {
        name: [
            pictures({**world, "seed": 900, "transformations": [name], "transform_seed": seed}, PAIRS)[0]
            for seed in (901, 902)
        ]
        for name in SINGLE
    }
    for trained in ("none", *SINGLE):
        chosen = [] if trained == "none" else [trained]
        backbone = pretrained({**world, "transformations": chosen}, epochs, 0)
        found = {}
        for measured in SINGLE:
            one, other = (features(backbone, images) for images in pairs[measured])
            found[measured] = normalised_distance(moved(one, other), apart(one))[0]
        yield trained, found


def tables(sets: list[dict[str, Any]], distances: dict[str, dict[str, float]]) -> str:
    """Write both tables, and what they say, as Markdown."""
    lines = ["| set | the target's transformations | the others | same | disjoint | difference |", "|---" * 6 + "|"]
    for number, one in enumerate(sets):
        figures = f"{one['same']:.1f} | {one['disjoint']:.1f} | {one['same'] - one['disjoint']:+.1f}"
        lines.append(f"| {number} | {', '.join(one['own'])} | {', '.join(one['others'])} | {figures} |")
    better = sum(one["same"] > one["disjoint"] for one in sets)
    lines += ["", f"The same transformations are better in {better} of {len(sets)} sets."]
    if len(sets) > 1:
        mean, interval, verdict = said([one["same"] - one["disjoint"] for one in sets])
        lines.append(f"The mean difference is {mean} points; paired 95 % interval: {interval}; {verdict}.")
    if not distances:
        return "\n".join(lines) + "\n"
    lines += ["", f"| trained under | {' | '.join(SINGLE)} |", "|---" * (len(SINGLE) + 1) + "|"]
    least = {name: min(distances, key=lambda row, name=name: distances[row][name]) for name in SINGLE}  # type: ignore[misc]
    for trained, row in distances.items():
        cells = [f"**{row[name]:.2f}**" if least[name] == trained else f"{row[name]:.2f}" for name in SINGLE]
        lines.append(f"| {trained} | {' | '.join(cells)} |")
    diagonal = sum(least[name] == name for name in SINGLE)
    lines += ["", f"The least distance of a column lies on the diagonal in {diagonal} of {len(SINGLE)} columns."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(".reprise/studies/transforms2d"))
    parser.add_argument("--sets", type=int, default=10)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--no-invariance", action="store_true", help="leave the second question out")
    options = parser.parse_args()
    out, began = options.out.resolve(), time.time()
    base = {"images": options.images, "size": options.size, "classes": OBJECTS}
    here, sets, distances = Path.cwd(), [], {}
    out.mkdir(parents=True, exist_ok=True)

    def write() -> None:
        found = {"transfer": sets, "invariance": distances}
        (out / "transforms2d.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (out / "transforms2d.md").write_text(tables(sets, distances), encoding="utf-8")
        print(f"{time.time() - began:.0f} s: {len(sets)} sets, {len(distances)} rows", flush=True)

    with tempfile.TemporaryDirectory(prefix="reprise-transforms2d-") as scratch:
        os.chdir(scratch)
        for number in range(options.sets):
            sets.append(transfer(number, base, options.epochs))
            write()
        for trained, row in () if options.no_invariance else invariance(base, options.epochs):
            distances[trained] = row
            write()
        os.chdir(here)
    print(tables(sets, distances))


if __name__ == "__main__":
    from reprise.runtime.entry import prepare_process

    prepare_process()
    main()
