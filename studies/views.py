"""What each change of views gives: pairs of settings over seeds, with paired intervals, as a table.

    python -m studies.views --data FOLDER [--out FOLDER] [--processes 4] [--seeds 3] [--epochs 20] [--minutes 30]
    python -m studies.views --toy

FOLDER holds `train/<class>/*` and `test/<class>/*`. Every setting is trained by the stage `pretrain` and embedded by
the stage `embed`, several at once: each process takes one setting after the other. kNN (k = 20) and the linear
classifier of Reprise judge the test images. Where the time (`--minutes`) is up no training begins, and the tables say
how many seeds they have. Written: `views.md`, and `views.json` with the figure of every seed. `--toy` runs all of it on
the embedded digits, for a minute on a CPU; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from studies.paired import said

BAGS = (1, 4, 16)  # patches of an image that is embedded as a bag
STRENGTHS = (0.02, 0.05, 0.1, 0.2, 0.4)  # of the random fields
FIT, HELD_OUT = (
    (None, 0, 2, 4),
    (1, 3),
)  # levels of distortion that the ridge is fitted on and scored on; None: as it is
RIDGE = 1.0  # on standardised features
PLAIN: list[Any] = [{"name": "crop", "scale_min": 0.2}, "flip"]
COLOURED: list[Any] = [*PLAIN, {"name": "colour", "strength": 0.5}, "grey"]
TAUGHT = {"momentum": 0.99, "momentum_end": 0.99, "queue": 2048}


def masked(noise: float) -> dict[str, Any]:
    """A mask of 30 % in the first of two views."""
    return {"name": "mask_grid", "ratio": 0.3, "cell": 4, "noise": noise, "probability": [1.0, 0.0]}


def settings(toy: bool) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name every setting: its method, and that method's parameters."""
    simclr = {"temperature": 0.2}
    found: dict[str, tuple[str, dict[str, Any]]] = {
        "emp_ssl": ("emp_ssl", {"patches": 2 if toy else 8, "views": COLOURED}),
        "re_iqa": ("re_iqa", TAUGHT),
        "moco_v2": ("moco_v2", {**TAUGHT, "views": COLOURED}),
        "simclr": ("simclr", {**simclr, "views": COLOURED}),
        "plain": ("simclr", {**simclr, "views": PLAIN}),
        "mask_noise": ("simclr", {**simclr, "views": [*COLOURED, masked(0.25)]}),
        "mask_flat": ("simclr", {**simclr, "views": [*COLOURED, masked(0.0)]}),
        "plain_mask_noise": ("simclr", {**simclr, "views": [*PLAIN, masked(0.25)]}),
        "plain_mask_flat": ("simclr", {**simclr, "views": [*PLAIN, masked(0.0)]}),
    }
    for strength in STRENGTHS[:1] if toy else STRENGTHS:
        change = {"name": "random_field", "sigma": strength, "length": 8.0}
        found[f"field_{strength:g}"] = ("simclr", {**simclr, "views": [*COLOURED, change]})
    return found


class Comparison(NamedTuple):
    """A row of a table: setting `a` against `b`, on each of these figures."""

    row: str
    question: str
    a: str
    b: str
    figures: tuple[str, ...] = ("knn", "linear")


def comparisons(toy: bool) -> Iterator[Comparison]:
    """List the rows in the order of the tables."""
    yield Comparison("simclr", "with colour changes against without", "simclr", "plain")
    yield Comparison("mscn", "masks of noise against flat ones, with colour changes", "mask_noise", "mask_flat")
    yield Comparison("mscn", "masks of noise against flat ones, without", "plain_mask_noise", "plain_mask_flat")
    yield Comparison("mscn", "masks of noise against no masks, with colour changes", "mask_noise", "simclr")
    yield Comparison("mscn", "masks of noise against no masks, without", "plain_mask_noise", "plain")
    for strength in STRENGTHS[:1] if toy else STRENGTHS:
        yield Comparison("rfa", f"fields of sigma {strength:g} against none", f"field_{strength:g}", "simclr")
    for encoder in ("emp_ssl", "simclr"):
        for bag in BAGS:
            question = f"{encoder}: a bag of {bag} against the whole image"
            yield Comparison("bagssl", question, f"{encoder}:{bag}", encoder)
        yield Comparison("bagssl", f"{encoder}: a bag of 16 against one of 4", f"{encoder}:16", f"{encoder}:4")
    for name, against in (("quality", "content"), ("both", "quality"), ("both", "content")):
        yield Comparison(
            "re-iqa", f"{name} against {against}: rank correlation with the level", name, against, ("srocc",)
        )


@dataclass(frozen=True)
class Budget:
    """What every training has in common.

    Attributes:
        size: side of the images in pixels.
        epochs: of each.
        until: time of this machine's clock after which no training begins.
        toy: whether this is only to try the script.
    """

    size: int
    epochs: int
    until: float
    toy: bool


@dataclass
class Result:
    """The figures of one setting and seed: of its embeddings by name, and the seconds that it took."""

    setting: str
    seed: int
    seconds: float = 0.0
    figures: dict[str, dict[str, float]] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------ one training
def make_workspace(data: Path | None, source: str = "digits", own: dict[str, Any] | None = None) -> None:
    """Ingest and shard the images, and write an empty label set for every seed, in the current folder.

    Args:
        data: the folder of the images; None for what `source` draws or brings.
        source: that needs no folder.
        own: options of that source.
    """
    import pyarrow as pa

    from reprise.artifacts.labels.label_sets import FILE, SCHEMA, write_pseudo_labels
    from reprise.artifacts.layout import MANIFEST, SHARDS, label_set
    from reprise.artifacts.manifest import read_manifest
    from reprise.artifacts.shards import Shards
    from reprise.config.plug_ins.registry import load_class
    from reprise.runtime.entry import threads
    from stages.ingest.ingest import ingest
    from stages.ingest.params import SourceParams
    from stages.ingest.source import Source
    from stages.shard.params import ShardParams
    from stages.shard.write import write_shards

    MANIFEST.parent.mkdir(parents=True)
    name = "folder" if data else source
    source_class: Any = load_class("sources", name, Source, "")  # type: ignore[type-abstract]
    params = SourceParams(name=name, root=str(data or "."), val_fraction=0.0, test_fraction=0.0 if data else 0.3)
    ingest(
        source_class(data or Path("."), source_class.Params.model_validate(own or {})),
        params,
        MANIFEST.parent,
        threads(),
    )
    SHARDS.mkdir(parents=True)
    write_shards(read_manifest(), ShardParams(), SHARDS, 1)
    shards = Shards.open()
    rows = [
        {"key": k, "cluster": None, "distance": None, "confidence": None, "round": 0}
        for k in shards.keys[shards.rows("train")]
    ]
    for seed in range(10):
        write_pseudo_labels(label_set("none", seed) / FILE, pa.Table.from_pylist(rows, SCHEMA))


def train(job: tuple[str, str, dict[str, Any], int, Budget]) -> Result | None:
    """Train one setting with one seed and judge it; None where the time is up."""
    name, method, options, seed, budget = job
    if time.time() > budget.until:
        return None
    from reprise.artifacts.layout import run as folder_of
    from reprise.config.params import ImageParams
    from reprise.config.plug_ins.registry import load_class
    from reprise.config.tables import RunRow
    from reprise.training.params import TrainParams
    from stages.embed.embedding import embed
    from stages.embed.params import EmbedParams
    from stages.pretrain.method import Method
    from stages.pretrain.run import pretrain

    began = time.perf_counter()
    shared: dict[str, Any] = {
        "backbone": "resnet_tiny", "epochs": budget.epochs, "batch_size": 128, "optimizer": "sgd",
        "learning_rate": 0.4, "weight_decay": 1e-4, "warmup_epochs": min(2, budget.epochs - 1),
        "checkpoint_steps": 10_000, "on_collapse": "warn",
    }  # fmt: skip
    params = load_class("methods", method, Method, "").Params.model_validate(options)
    image, row = (
        ImageParams(size=budget.size, channels=3),
        RunRow(name=name.replace(".", "_"), method=method, labels="none"),
    )
    pretrain(row, seed, image, TrainParams.model_validate(shared), params, folder_of(row.name, seed), restart=True)
    result = Result(name, seed)
    for bag in (None, *(BAGS if name in ("emp_ssl", "simclr") else ())):
        out = Path("data/embed") / f"{row.name}_{bag or 'whole'}" / str(seed)
        embed(row.name, seed, EmbedParams(augmented=0, bag=bag), out, restart=True)
        result.figures[name if bag is None else f"{name}:{bag}"] = judged(out)
    result.seconds = round(time.perf_counter() - began, 1)
    return result


def judged(embedding: Path) -> dict[str, float]:
    """Return kNN and linear accuracy on the test images, in percent."""
    import numpy as np

    from reprise.artifacts.embeddings import FILE, read_embeddings
    from reprise.artifacts.manifest import read_manifest
    from reprise.measures.linear import Problem
    from reprise.measures.nearest.neighbours import classify

    table = read_manifest()
    labels = dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
    classes = sorted(set(labels.values()))
    known = {}
    for split in ("train", "test"):
        keys, _, values = read_embeddings(embedding / FILE, "backbone", split)
        known[split] = values, np.array([classes.index(labels[key]) for key in keys])
    (x, y), (x_test, y_test) = known["train"], known["test"]
    nearest = classify(x_test, x, y, len(classes), 20, 0.07)[0]
    linear = Problem(x, y).fit(1e-3).predict(x_test)[0]
    return {"knn": 100 * float((nearest == y_test).mean()), "linear": 100 * float((linear == y_test).mean())}


# ---------------------------------------------------------------------------------------------------- quality
def qualities(seed: int, size: int, images: int) -> dict[str, dict[str, float]]:
    """Rank correlation of predicted and true level of distortion, by the features of quality, of content, and of both.

    A ridge is fitted on training images at some levels, and scored on test images at the others.
    """
    import numpy as np
    from scipy.stats import spearmanr

    fitted = {name: distorted_features(name, seed, size, "train", FIT, images) for name in ("re_iqa", "moco_v2")}
    scored = {name: distorted_features(name, seed, size, "test", HELD_OUT, images) for name in fitted}
    y, y_new = fitted["re_iqa"][1], scored["re_iqa"][1]
    chosen = {"quality": ["re_iqa"], "content": ["moco_v2"], "both": ["re_iqa", "moco_v2"]}
    found = {}
    for figure, names in chosen.items():
        x, x_new = (np.concatenate([part[name][0] for name in names], axis=1) for part in (fitted, scored))
        mean, std = x.mean(axis=0), x.std(axis=0) + 1e-9
        x, x_new = (x - mean) / std, (x_new - mean) / std
        weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (y - y.mean()))
        found[figure] = {"srocc": float(spearmanr(x_new @ weights, y_new).statistic)}
    return found


def distorted_features(
    run: str, seed: int, size: int, split: str, levels: tuple[int | None, ...], images: int
) -> tuple[Any, Any]:
    """Return features and levels of images that are each distorted in one way; level 0 stands for none."""
    import numpy as np
    import torch

    from reprise.artifacts.layout import run as folder_of
    from reprise.artifacts.shards import Shards
    from reprise.artifacts.weights.backbones import open_weights, read_config
    from reprise.networks.assemble import assemble
    from reprise.reading.decoded import open_decoded
    from stages.pretrain.parts.pixels.distortions import KINDS, distorted

    folder = folder_of(run, seed)
    config = read_config(folder)
    network = assemble(config, *open_weights(folder), where=str(folder)).eval()
    shards = Shards.open()
    pixels = np.array(open_decoded(shards, shards.rows(split)[:images], 3).resized(size))
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    rng = torch.Generator().manual_seed(seed)  # the same distortions for both networks
    kinds = torch.randint(len(KINDS), (len(x),), generator=rng)
    which = torch.randint(len(levels), (len(x),), generator=rng)
    noise = torch.randn(x.shape, generator=rng)
    for kind in range(len(KINDS)):
        for place, level in enumerate(levels):
            rows = ((kinds == kind) & (which == place)).nonzero()[:, 0]
            if level is not None and len(rows):
                x[rows] = distorted(x[rows], kind, level, noise[rows])
    mean, std = (torch.tensor(config[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        values = torch.cat([network((part - mean) / std)["backbone"].float() for part in x.split(512)]).numpy()
    return values, np.array([0 if level is None else level + 1 for level in levels])[which.numpy()]


# ---------------------------------------------------------------------------------------------------- tables
def tables(results: Iterable[Result], rows: Iterable[Comparison]) -> str:
    """Write one table of settings and one of comparisons, as Markdown."""
    by_name: dict[str, dict[int, dict[str, float]]] = {}
    for result in results:
        for name, figures in result.figures.items():
            by_name.setdefault(name, {})[result.seed] = figures
    lines = ["| setting | seeds | kNN % | linear % | rank correlation |", "|---|---|---|---|---|"]
    for name, seeds in by_name.items():
        cells = [_means(seeds, figure) for figure in ("knn", "linear", "srocc")]
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} |")
    lines += [
        "",
        "| row | comparison | figure | seeds | difference | 95 % interval | |",
        "|---|---|---|---|---|---|---|",
    ]
    for comparison in rows:
        a, b = by_name.get(comparison.a, {}), by_name.get(comparison.b, {})
        common = sorted(a.keys() & b.keys())
        for figure in comparison.figures:
            lines.append(_row(comparison, figure, [a[s][figure] - b[s][figure] for s in common]))
    return "\n".join(lines) + "\n"


def _means(seeds: dict[int, dict[str, float]], figure: str) -> str:
    values = [figures[figure] for figures in seeds.values() if figure in figures]
    digits = 3 if figure == "srocc" else 1
    return f"{sum(values) / len(values):.{digits}f}" if values else ""


def _row(comparison: Comparison, figure: str, differences: list[float]) -> str:
    head = f"| {comparison.row} | {comparison.question} | {figure} | {len(differences)} |"
    if len(differences) < 2:
        return f"{head} | | not run |"
    return f"{head} {' | '.join(said(differences, 3 if figure == 'srocc' else 1))} |"


def main() -> None:
    """Train, judge, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path(".reprise/studies/views"))
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--only", nargs="+", help="names of settings")
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    if options.toy:
        options.seeds, options.epochs, options.size, options.processes = 2, 1, 16, min(2, options.processes)
    elif options.data is None:
        parser.error("--data names the folder of images, unless --toy is given")
    out, data = options.out.resolve(), options.data.resolve() if options.data and not options.toy else None
    began = time.time()
    budget = Budget(options.size, options.epochs, began + 60 * options.minutes, options.toy)
    known = {n: s for n, s in settings(options.toy).items() if not options.only or n in options.only}
    jobs = [(name, *setting, seed, budget) for seed in range(options.seeds) for name, setting in known.items()]
    os.environ.setdefault("REPRISE_THREADS", str(max(1, (os.cpu_count() or 1) // options.processes)))
    with tempfile.TemporaryDirectory(prefix="reprise-views-") as scratch:
        os.chdir(scratch)
        make_workspace(data)
        print(f"workspace after {time.time() - began:.0f} s", flush=True)
        results = trained(jobs, options.processes)
        results += [
            Result("re_iqa and moco_v2", seed, 0.0, qualities(seed, options.size, 200 if options.toy else 2000))
            for seed in range(options.seeds)
            if {"re_iqa", "moco_v2"} <= {r.setting for r in results if r.seed == seed}
        ]
        os.chdir("/")
    out.mkdir(parents=True, exist_ok=True)
    text = tables(results, comparisons(options.toy))
    (out / "views.md").write_text(text, encoding="utf-8")
    (out / "views.json").write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n", encoding="utf-8")
    print(f"{text}\n{len(results)} results of {len(jobs)} trainings in {time.time() - began:.0f} s", flush=True)


def trained(jobs: list[Any], processes: int) -> list[Result]:
    """Run the trainings, several at once; each process imports torch once."""
    found = []
    with multiprocessing.get_context("spawn").Pool(processes, _prepare) as pool:
        for result in pool.imap_unordered(train, jobs):
            if result is not None:
                print(json.dumps(asdict(result)), flush=True)
                found.append(result)
    return sorted(found, key=lambda r: (r.seed, [job[0] for job in jobs].index(r.setting)))


def _prepare() -> None:
    from reprise.runtime.entry import prepare_process

    prepare_process()


if __name__ == "__main__":
    main()
