"""What labels that move, arbitrary pairs and three granularities give: `interclr`, `simlap` and `mugs`, as tables.

    python -m studies.labels interclr [--data FOLDER] [--images 1200] [--epochs 10]
    python -m studies.labels simlap --data FOLDER
    python -m studies.labels mugs
    python -m studies.labels confidence --data FOLDER
    python -m studies.labels STUDY --toy

FOLDER holds `train/<class>/*` and `test/<class>/*`, of which the first `--images` (train) and half as many (test) are
taken, equally of each class; without it `interclr` takes the embedded digits. `mugs` draws its own pictures: shapes in
six colours. Everything is trained, mined and embedded by the product's own stages. Printed: kNN (k = 20) and linear
accuracy on the test images and RankMe of the training images for each setting, then paired differences over the seeds
with 95 % intervals. `confidence` mines ten clusters of SimCLR's features and shows the AUROC of each confidence: how
well it tells images of their cluster's commonest class from others. `--toy` tries it in a minute; its figures mean
nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from studies.paired import said
from studies.views import make_workspace

MINED, PATCHES = "by_patches", {"patches": 128, "samples": 50_000, "components": 64}
COLOURED: list[Any] = [{"name": "crop", "scale_min": 0.2}, "flip", {"name": "colour", "strength": 0.5}, "grey"]
DIGITS: list[Any] = [{"name": "crop", "scale_min": 0.5}]  # a mirrored digit is none
CROPS: list[Any] = [{"name": "crop", "scale_min": 0.3}, {"name": "colour", "strength": 0.2}]
SLOW = {"momentum": 0.98, "momentum_end": 0.98}
Figures = dict[str, dict[int, dict[str, float]]]  # of each setting, by seed


class Setting(NamedTuple):
    """A run: its method, that method's parameters, and its label set."""

    method: str
    options: dict[str, Any]
    labels: str = "none"


class Study(NamedTuple):
    """What is trained and what is compared.

    Attributes:
        settings: by their names.
        pairs: names of settings whose difference is shown.
        figures: that are compared.
        views: of all runs.
        clusters: of the mined label set; 0 for none.
    """

    settings: dict[str, Setting]
    pairs: list[tuple[str, str]]
    figures: tuple[str, ...]
    views: list[Any]
    clusters: int = 0


def study(name: str, images: int, digits: bool) -> Study:
    """Look up one of the three studies, for so many training images; whether these are digits decides on the views."""
    if name == "confidence":
        figures = ("own", "resamples", "two_views")
        return Study({"simclr": Setting("simclr", {"temperature": 0.2})}, [], figures, DIGITS if digits else COLOURED)
    if name == "interclr":
        queue = {**SLOW, "queue": images // 2}
        return Study(
            {
                "moco_v2": Setting("moco_v2", queue),
                "interclr": Setting("interclr", queue),
                "interclr, mined": Setting("interclr", {**queue, "labels": "mined"}, MINED),
            },
            [("interclr", "moco_v2"), ("interclr, mined", "moco_v2"), ("interclr", "interclr, mined")],
            ("knn", "linear"),
            DIGITS if digits else COLOURED,
            max(2, round(0.0078 * images)),
        )
    if name == "simlap":
        return Study(
            {
                "random": Setting("random", {}),
                "simclr": Setting("simclr", {"temperature": 0.2}),
                "simlap": Setting("simlap", {}, MINED),
                "simlap, identical": Setting("simlap", {"pairs": "identical"}, MINED),
            },
            [("simlap", "random"), ("simlap", "simclr"), ("simlap", "simlap, identical")],
            ("knn", "linear", "rank"),
            DIGITS if digits else COLOURED,
            40,
        )
    shared = {"queue": images // 2, "buffer": images // 2, "momentum": 0.97, "small_crops": 0, "scale_split": 0.3}
    weights = {"instance": (1.0, 0.0, 0.0), "local group": (0.0, 1.0, 0.0), "group": (0.0, 0.0, 1.0)}
    alone = {
        f"{name} alone": Setting("mugs", {**shared, "instance": a, "local_group": b, "group": c})
        for name, (a, b, c) in weights.items()
    }
    return Study(
        {"random": Setting("random", {}), "three losses": Setting("mugs", shared), **alone},
        [("three losses", other) for other in (*alone, "random")],
        ("coarse", "fine"),
        CROPS,
    )


def workspace(name: str, data: Path | None, images: int) -> None:
    """Fill the current folder with shards and with an empty label set."""
    if name == "mugs":
        make_workspace(None, "shapes", {"images": round(1.4 * images), "size": 24})  # of which 30 % are test pictures
    else:
        make_workspace(some_of(data, images) if data else None)


def some_of(data: Path, images: int) -> Path:
    """Copy equally many images of each class, `images` for training and half as many for testing; return the folder."""
    out = Path("chosen").resolve()
    for split, count in (("train", images), ("test", images // 2)):
        classes = sorted(path for path in (data / split).iterdir() if path.is_dir())
        for folder in classes:
            target = out / split / folder.name
            target.mkdir(parents=True)
            for file in sorted(folder.iterdir())[: count // len(classes)]:
                shutil.copy(file, target / file.name)
    return out


def mine_labels(clusters: int, seed: int, size: int) -> None:
    """Mine one label set of the training images: k-means on features of patches, which nothing was trained for."""
    from reprise.artifacts import layout
    from reprise.config.params import ImageParams
    from reprise.config.tables import MineRow
    from stages.mine.extractors.patches import Patches, PatchParams
    from stages.mine.features import extract
    from stages.mine.label_sets.label_set import mine
    from stages.mine.miners.kmeans import KMeans, KMeansParams

    params, image = PatchParams.model_validate(PATCHES), ImageParams(size=size, channels=3)
    extract(Patches, params, "patches", seed, image, layout.features("patches", seed), True)
    row = MineRow(name=MINED, miner="kmeans", on="features/patches")
    mine(row, KMeans, KMeansParams(clusters=clusters), seed, layout.label_set(MINED, seed), True)


def areas(seed: int) -> dict[str, float]:
    """Mine ten clusters of the run that was embedded last, and return the AUROC of every confidence in percent."""
    import json

    from reprise.artifacts import layout
    from reprise.config.tables import MineRow
    from stages.mine.label_sets.label_set import mine
    from stages.mine.miners.kmeans import KMeans, KMeansParams

    params, out = KMeansParams(clusters=10, resamples=5, confidence="two_views"), layout.label_set("sure", seed)
    mine(MineRow(name="sure", miner="kmeans", on="embed/run"), KMeans, params, seed, out, True)
    return {name: 100 * value for name, value in json.loads((out / "quality.json").read_text())["auroc"].items()}


def differences(found: Figures) -> Figures:
    """Turn the areas of one setting into one setting for each confidence, so that they can be compared."""
    return {
        name: {seed: {"auroc": figures[name]} for seed, figures in found["simclr"].items()}
        for name in ("own", "resamples", "two_views")
    }


def trained(setting: Setting, views: list[Any], seed: int, size: int, epochs: int, two_passes: bool = False) -> Path:
    """Train and embed one run in the current folder; return the folder of its embedding."""
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
        "backbone": "resnet_tiny", "epochs": epochs, "batch_size": 64, "optimizer": "sgd", "learning_rate": 0.2,
        "weight_decay": 1e-4, "warmup_epochs": min(2, epochs - 1), "checkpoint_steps": 10_000, "on_collapse": "warn",
        "precision": "fp32", "views": views,
    }  # fmt: skip
    kind = load_class("methods", setting.method, Method, "")
    row = RunRow(name="run", method=setting.method, labels=setting.labels)
    image, train = ImageParams(size=size, channels=3), TrainParams.model_validate(shared)
    pretrain(row, seed, image, train, kind.Params.model_validate(setting.options), folder_of("run", seed), restart=True)
    embed("run", seed, EmbedParams(augmented=0, two_passes=two_passes), embedding("run", seed), restart=True)
    return embedding("run", seed)


def judged(embedding: Path, fine: dict[str, str]) -> dict[str, float]:
    """Return kNN and linear accuracy in percent and RankMe; with finer labels, kNN of both as `coarse` and `fine`.

    Args:
        embedding: the folder.
        fine: a finer label of each key; empty for none.
    """
    import numpy as np

    from reprise.artifacts.embeddings import FILE, read_embeddings
    from reprise.artifacts.manifest import read_manifest
    from reprise.measures.linear import Problem
    from reprise.measures.nearest.neighbours import classify
    from reprise.measures.spectrum import rankme

    table = read_manifest()
    coarse = dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
    (keys, _, x), (test_keys, _, x_test) = (
        read_embeddings(embedding / FILE, "backbone", split) for split in ("train", "test")
    )
    found = {"rank": rankme(x)}
    for name, labels in {"coarse": coarse, "fine": fine}.items():
        if not labels:
            continue
        classes = sorted(set(labels.values()))
        y, y_test = (np.array([classes.index(labels[key]) for key in part]) for part in (keys, test_keys))
        nearest = classify(x_test, x, y, len(classes), 20, 0.07)[0]
        found[name] = 100 * float((nearest == y_test).mean())
        if name == "coarse":
            linear = Problem(x, y).fit(1e-3).predict(x_test)[0]
            found |= {"knn": found[name], "linear": 100 * float((linear == y_test).mean())}
    return found


def tables(found: Figures, chosen: Study) -> str:
    """Write one table of settings and one of differences, as Markdown."""
    seeds = len(next(iter(found.values())))
    lines = [f"| setting | {' | '.join(chosen.figures)} |", "|---|" + "---|" * len(chosen.figures)]
    for name, by_seed in found.items():
        cells = [f"{sum(f[figure] for f in by_seed.values()) / len(by_seed):.1f}" for figure in chosen.figures]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", f"| difference, {seeds} seeds | figure | mean | 95 % interval | |", "|---|---|---|---|---|"]
    for a, b in chosen.pairs:
        for figure in chosen.figures:
            cells = " | ".join(said([found[a][s][figure] - found[b][s][figure] for s in found[a]]))
            lines.append(f"| {a} - {b} | {figure} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train every setting for every seed, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("interclr", "simlap", "mugs", "confidence"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    if options.toy:
        options.data, options.images, options.seeds, options.epochs = None, 300, 2, 2
    data = options.data.resolve() if options.data else None
    chosen, found = study(options.study, options.images, data is None), Figures()
    with tempfile.TemporaryDirectory(prefix="reprise-labels-") as scratch:
        os.chdir(scratch)
        workspace(options.study, data, options.images)
        fine = finer_labels(options.study)
        for seed in range(options.seeds):
            if chosen.clusters:
                mine_labels(chosen.clusters, seed, options.size)
            for name, setting in chosen.settings.items():
                began = time.monotonic()
                sure = options.study == "confidence"
                place = trained(setting, chosen.views, seed, options.size, options.epochs, sure)
                figures = areas(seed) if sure else judged(place, fine)
                found.setdefault(name, {})[seed] = figures
                print(seed, name, {k: round(v, 2) for k, v in figures.items()}, f"{time.monotonic() - began:.0f} s",
                      flush=True)  # fmt: skip
        os.chdir("/")
    if options.study == "confidence":
        pairs = [("two_views", "own"), ("two_views", "resamples"), ("resamples", "own")]
        found, chosen = differences(found), chosen._replace(pairs=pairs, figures=("auroc",))
    print(tables(found, chosen), end="")


def finer_labels(name: str) -> dict[str, str]:
    """Return shape and colour of each picture by its key; nothing for other images."""
    if name != "mugs":
        return {}
    from reprise.artifacts.facts.table import read_facts
    from reprise.artifacts.layout import MANIFEST
    from reprise.artifacts.manifest import read_manifest

    table, facts = read_manifest(), read_facts(MANIFEST.parent)
    labels = dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
    colours = dict(zip(facts.keys.tolist(), facts.columns["colour"].tolist(), strict=True))
    return {key: f"{label} {colours[key]}" for key, label in labels.items()}


if __name__ == "__main__":
    main()
