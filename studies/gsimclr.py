"""G-SimCLR against SimCLR and its own parts, from images to tables and plots.

    make gsimclr-table CIFAR10=/path/to/cifar10 IMAGENET5=/path/to/imagenet5
    python -m studies.gsimclr --cifar10 FOLDER [--imagenet5 FOLDER] [--only cifar10 axes] [--output FOLDER]

Folders hold `train/<class>/*` and `test/<class>/*`. Each plan (studies/gsimclr_*.yaml) is run as a sweep of DVC
experiments on the commit that is checked out: what is done comes from the cache, what was cut short goes on. The
figures are read back from the experiments' artifacts, never from a log. Written: `gsimclr.md`, the plots, and
`figures.json` with the experiment and the data that each figure comes from.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np

from pipeline.compare.revisions import per_seed
from pipeline.compare.sides.inputs import committed
from pipeline.graph.remotes.revision_outputs import fetch_at
from pipeline.processes.markdown import table
from pipeline.sweeps.runner import SweepPlan, load_plan, run_sweep
from reprise.artifacts.labels.label_sets import clusters_for, read_pseudo_labels
from reprise.artifacts.layout import PARAMS
from reprise.artifacts.manifest import read_manifest
from reprise.config.errors import RepriseError
from reprise.config.plain_yaml import plain_data
from reprise.measures.statistics import Interval, compare, holm
from reprise.reading.order import OneByOne

HERE, OUTPUT = Path(__file__).parent, Path(".reprise/studies/gsimclr")
ROOT = HERE.parent
BASE = "simclr"
LEARNED = "learned_"  # plans whose label sets come from methods that learn clusters
COLUMNS = {  # metric -> head of its column; P1 to P3 as the paper counts, from the end of the projector to the backbone
    "linear.top1": "linear P3, backbone",
    "linear.top1_projector1": "P2, projector 1",
    "linear.top1_projector2": "P1, projector 2",
    "finetune.top1_10_percent": "fine-tuned, 10 %",
    "knn.top1": "kNN",
    "spectrum.rankme": "RankMe",
}
EPOCHS_COUNTED = 5
SHORT = {"linear.top1": "P3", "knn.top1": "kNN"}  # metrics that may decide: `summary.family` of a plan
PAIRS = ("one class among the negatives", "other classes lost")  # heads of the two figures of `Pushed`
Table = Mapping[str, Mapping[str, Mapping[int, Any]]]  # "probe.metric" -> run -> seed -> Figure


# ------------------------------------------------------------------------------------------- what is computed
class Pushed(NamedTuple):
    """Which pairs of images the batches of a run push apart."""

    same_class: float  # share of these pairs that are of one class: the conflicts that guiding is to avoid
    lost: float  # share of the pairs of different classes that random batches would push apart and these do not


def batches_of(clusters: np.ndarray, sampling: OneByOne, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Draw the batches of an epoch as a run with this seed does."""
    import torch

    from stages.pretrain.epochs import PretrainingEpochs

    def no_views(rows: np.ndarray, epoch: int, number: int) -> list[torch.Tensor]:
        return []

    rows, device = np.arange(len(clusters)), torch.device("cpu")
    return PretrainingEpochs(1, batch_size, sampling, rows, clusters, {}, no_views, seed, device).order(epoch)


def pushed(
    classes: np.ndarray, clusters: np.ndarray, sampling: OneByOne, masked: bool, batch_size: int, seed: int
) -> Pushed:
    """Count over the batches of a run's first epochs.

    Args:
        classes: (n,) integers. clusters: (n,) integers, -1 for none. sampling: `random`, `guided` or `rank`.
        masked: whether images of one cluster are left out of each other's negatives.
    """

    def pairs(values: np.ndarray) -> int:
        sizes = np.unique(values, return_counts=True)[1]
        return int((sizes * (sizes - 1) // 2).sum())

    alone = -1 - np.arange(len(clusters))
    group = np.where(clusters < 0, alone, clusters)
    both = np.unique(np.stack([classes, group]), axis=1, return_inverse=True)[1].reshape(-1)
    every = same = in_batches = 0
    for epoch in range(EPOCHS_COUNTED):
        for rows in batches_of(clusters, sampling, batch_size, seed, epoch):
            in_batches += len(rows) * (len(rows) - 1) // 2
            every += len(rows) * (len(rows) - 1) // 2 - (pairs(group[rows]) if masked else 0)
            same += pairs(classes[rows]) - (pairs(both[rows]) if masked else 0)
    n = len(classes)
    other = 1 - pairs(classes) / max(1, n * (n - 1) // 2)  # share of all pairs that are of different classes
    return Pushed(same / max(1, every), 1 - (every - same) / max(1.0, in_batches * other))


class Versus(NamedTuple):
    """A run against SimCLR on one metric, paired by seed; `p` after Holm over the family, None without a test."""

    difference: float
    interval: Interval
    p: float | None


def against_base(values: Mapping[str, Mapping[int, float]], runs: Sequence[str], base: str = BASE) -> dict[str, Versus]:
    """Each run against one, over the seeds that both have; the family of Holm's adjustment is `runs`."""
    pairs = {run: pair for run in runs for pair in compare({base: values[base], run: values[run]})}
    tested = {run: pair.p for run, pair in pairs.items() if pair.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {run: Versus(pair.difference, pair.over_seeds, adjusted.get(run)) for run, pair in pairs.items()}


# ------------------------------------------------------------------------------------------------ what is read
class Point(NamedTuple):
    """One finished point of a plan: its changes, its figures, and where they come from."""

    changes: Mapping[str, Any]
    table: Table
    pushed: Mapping[str, Pushed]  # by contrastive run, mean over seeds
    origin: Mapping[str, str]

    def values(self, metric: str) -> dict[str, dict[int, float]]:
        """run -> seed -> value, as a share or as it is."""
        return {run: {s: f.value for s, f in seeds.items()} for run, seeds in self.table.get(metric, {}).items()}

    @property
    def decided(self) -> str:
        """The one metric of the verdicts: SimCLR against each kind of guiding."""
        return str(self.changes.get("summary.family", "linear.top1"))

    def verdicts(self) -> dict[str, Versus]:
        """Each kind of guiding against SimCLR, on the one metric that decides."""
        return against_base(self.values(self.decided), [run for run in self.pushed if run != BASE])

    def removed(self, run: str) -> float:
        """Return the share of SimCLR's conflicts that a kind of guiding takes away; below 0 where it adds some."""
        return 1 - self.pushed[run].same_class / self.pushed[BASE].same_class


def run_plan(name: str, images: Path) -> list[Point]:
    """Run what is missing of a plan on a folder of images, and read all of it back."""
    plan = rooted(load_plan(HERE / f"gsimclr_{name}.yaml"), images)
    result = run_sweep(plan, root=ROOT)
    if result.failed:
        sys.exit(f"{len(result.failed)} of {len(result.points)} points failed; what they said stands above")
    return [read_point(point.name, point.experiment or "", point.changes) for point in result.points]


def rooted(plan: SweepPlan, images: Path) -> SweepPlan:
    """The plan with `source.root` leading to these images."""

    def lead(changes: dict[str, Any]) -> dict[str, Any]:
        return {**changes, "source": {**changes["source"], "root": str(images.resolve())}}

    return SweepPlan.model_validate(
        {**plan.model_dump(), "grid": None, "points": [lead(changes) for changes in plan.expanded()]}
    )


def read_point(name: str, commit: str, changes: Mapping[str, Any]) -> Point:
    """The artifacts of an experiment, from DVC's cache."""
    params = plain_data(committed(commit, PARAMS, ROOT) or b"", PARAMS)
    with tempfile.TemporaryDirectory() as scratch:

        def fetched(path: str) -> Path:
            target = Path(scratch) / path.replace("/", "-")
            if not target.exists() and not fetch_at(commit, path, target, ROOT):
                sys.exit(f"{path} of experiment {name} ({commit[:12]}) is not in DVC's cache; run the same again")
            return target

        table = per_seed(fetched("data/summary/table.csv").read_bytes())
        manifest = read_manifest(fetched("data/ingest/manifest.parquet"))
        batch_size = params["train"]["batch_size"]
        classes = dict(zip(manifest["key"].to_pylist(), manifest["label"].to_pylist(), strict=True))
        found = {}
        for run in changes["runs"]:
            if run["method"] not in ("simclr", "gsimclr"):
                continue
            settings = changes["methods"][run["name"]]
            order = settings.get("sampling", "guided") if run["method"] == "gsimclr" else "random"
            parts = [
                pushed(
                    *_aligned(fetched(f"data/mine/{run['labels']}/{seed}/pseudo_labels.parquet"), classes),
                    order,
                    settings.get("mask_negatives", False),
                    batch_size,
                    seed,
                )
                for seed in changes["seeds"]
            ]
            found[run["name"]] = Pushed(*(mean(values) for values in zip(*parts, strict=True)))
        counts = {split: manifest["split"].to_pylist().count(split) for split in ("train", "val", "test")}
    return Point(
        changes, table, found, {"experiment": name, "commit": commit, **{k: str(v) for k, v in counts.items()}}
    )


def _aligned(labels: Path, classes: Mapping[str, str | None]) -> tuple[np.ndarray, np.ndarray]:
    """Class and cluster of each training image, as integers; an image without a class is one of its own."""
    table = read_pseudo_labels(labels)
    keys = np.array(table["key"].to_pylist())
    names = [classes[key] if classes[key] is not None else f"/{key}" for key in keys.tolist()]
    return np.unique(np.array(names), return_inverse=True)[1], clusters_for(table, keys, labels)


# --------------------------------------------------------------------------------------------- what is written
def arms_table(point: Point) -> str:
    """A row a run: every metric as mean and standard deviation over seeds, and the verdict against SimCLR."""
    metrics = [metric for metric in COLUMNS if metric in point.table]
    runs = list(dict.fromkeys(run for metric in metrics for run in point.table[metric]))
    verdicts = point.verdicts()
    heads = ["run", *(COLUMNS[m] for m in metrics), f"{SHORT[point.decided]} - SimCLR's", "p, Holm", *PAIRS]
    rows = []
    for run in runs:
        cells = [_over_seeds(metric, point.values(metric).get(run, {})) for metric in metrics]
        rows.append([run, *cells, *_verdict(verdicts.get(run)), *_shares(point.pushed.get(run))])
    return table(heads, rows)


def axes_table(points: Iterable[Point]) -> str:
    """A row a run of each temperature."""
    heads = ["temperature", "run", *PAIRS, "linear P3", "P3 - SimCLR's", "p, Holm"]
    rows = []
    for point in points:
        values, verdicts = point.values(point.decided), point.verdicts()
        for run, shares in point.pushed.items():
            figures = [_over_seeds(point.decided, values[run]), *_verdict(verdicts.get(run))]
            rows.append([str(_temperature(point)), run, *_shares(shares), *figures])
    return table(heads, rows)


def draw_axes(points: Sequence[Point], folder: Path) -> list[Path]:
    """Two plots: the difference from SimCLR over the share of conflicts among the negatives, and over temperature."""
    plt = _plotting()
    judged = [(point, point.verdicts()) for point in points]
    found = []
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for point, versus in judged:
        runs = sorted(versus, key=lambda run: point.pushed[run].same_class)
        _line(
            axes,
            [100 * point.pushed[r].same_class for r in runs],
            [versus[r] for r in runs],
            f"temperature {_temperature(point)}",
        )
    before = 100 * mean(point.pushed[BASE].same_class for point in points)
    axes.axvline(before, color="0.5", linestyle=":", linewidth=1)
    axes.set(xlabel=f"pairs of one class among the negatives (%; SimCLR, dotted: {before:.1f})")
    found.append(_save(figure, axes, folder / "gsimclr-conflicts.png", "linear accuracy"))
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for run in dict.fromkeys(run for _, versus in judged for run in versus):
        found_at = {_temperature(point): versus[run] for point, versus in judged if run in versus}
        if len(found_at) > 1:
            _line(axes, sorted(found_at), [found_at[temperature] for temperature in sorted(found_at)], run)
    axes.set(xlabel="temperature")
    found.append(_save(figure, axes, folder / "gsimclr-temperature.png", "linear accuracy"))
    return found


def draw_removed(points: Mapping[str, Point], path: Path) -> Path:
    """Plot the difference from SimCLR in kNN over the share of its conflicts that each label set takes away.

    Args:
        points: one for each data set, by the name of its plan.
        path: of the picture.
    """
    figure, axes = _plotting().subplots(figsize=(6.8, 4.4), layout="constrained")
    for name, point in points.items():
        versus = point.verdicts()
        runs = sorted(versus, key=point.removed)
        x = [100 * point.removed(run) for run in runs]
        _line(axes, x, [versus[run] for run in runs], name.removeprefix(LEARNED))
        for run, place in zip(runs, x, strict=True):
            label = run.removeprefix("guided_").removeprefix("gsimclr_")
            axes.annotate(
                label, (place, 100 * versus[run].difference), xytext=(4, 4), textcoords="offset points", fontsize=7
            )
    axes.set(xlabel="conflicts taken away (% of SimCLR's pairs of one class)")
    return _save(figure, axes, path, "kNN accuracy")


def _plotting() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "reprise"
    return plt


def _line(axes: Any, x: Sequence[float], versus: Sequence[Versus], label: str) -> None:
    y = np.array([100 * v.difference for v in versus])
    low = np.array([100 * (v.difference if v.interval.low is None else v.interval.low) for v in versus])
    high = np.array([100 * (v.difference if v.interval.high is None else v.interval.high) for v in versus])
    axes.errorbar(x, y, yerr=[y - low, high - y], marker="o", capsize=3, label=label)


def _save(figure: Any, axes: Any, path: Path, metric: str) -> Path:
    axes.axhline(0, color="0.5", linewidth=1)
    axes.set_ylabel(f"{metric} - SimCLR's (points)")
    axes.legend(frameon=False)
    axes.set_title("mean over seeds and 95 % interval of the paired difference", fontsize=9)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    return path


def _temperature(point: Point) -> float:
    return float(point.changes["methods"][BASE]["temperature"])


def _over_seeds(metric: str, seeds: Mapping[int, float]) -> str:
    """Percent, or the figure itself where it is no share: mean and standard deviation."""
    if not seeds:
        return ""
    scale = 1 if metric == "spectrum.rankme" else 100
    values = [scale * value for value in seeds.values()]
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _shares(shares: Pushed | None) -> list[str]:
    return [f"{100 * value:.2f} %" for value in shares] if shares else ["", ""]


def _verdict(versus: Versus | None) -> list[str]:
    if versus is None:
        return ["", ""]
    low, high = versus.interval
    limits = f" [{100 * low:+.1f}, {100 * high:+.1f}]" if low is not None and high is not None else ""
    return [f"{100 * versus.difference:+.1f}{limits}", "" if versus.p is None else f"{versus.p:.3f}"]


def main() -> None:
    """Run, read back, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="images of CIFAR-10, for the plans that end in it, and axes")
    parser.add_argument("--imagenet5", type=Path, help="images of five classes of ImageNet")
    learned = [f"{LEARNED}{images}" for images in ("cifar10", "imagenet5")]
    parser.add_argument("--only", nargs="+", choices=("cifar10", "imagenet5", "axes", *learned), help="these plans")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    images = (options.cifar10, options.imagenet5)
    folders = dict(zip(("cifar10", "imagenet5", *learned, "axes"), (*images, *images, options.cifar10), strict=True))
    wanted = options.only or [name for name, folder in folders.items() if folder]
    for name in wanted:
        if folders[name] is None or not folders[name].is_dir():
            parser.error(f"plan {name} needs images: --{'imagenet5' if name.endswith('imagenet5') else 'cifar10'}")
    if not wanted:
        parser.error("name a folder of images: --cifar10 or --imagenet5, or make gsimclr-table CIFAR10=/path")
    output = options.output.absolute()
    points = {name: run_plan(name, folders[name].absolute()) for name in wanted}
    output.mkdir(parents=True, exist_ok=True)
    sections = []
    for name, found in points.items():
        text = axes_table(found) if name == "axes" else arms_table(found[0])
        origin = "; ".join(f"`{p.origin['experiment']}` ({p.origin['commit'][:12]})" for p in found)
        size = ", ".join(f"{found[0].origin[split]} {split}" for split in ("train", "val", "test"))
        sections.append(f"## {name}\n\n{text}\n\nImages: {size}. Experiments: {origin}.\n")
    (output / "gsimclr.md").write_text("\n".join(sections), encoding="utf-8")
    figures = {
        name: [{**p.origin, "changes": dict(p.changes), "figures": _plain(p)} for p in found]
        for name, found in points.items()
    }
    (output / "figures.json").write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    drawn = draw_axes(points["axes"], output) if "axes" in points else []
    learning = {name: found[0] for name, found in points.items() if name.startswith(LEARNED)}
    drawn += [draw_removed(learning, output / "learned-conflicts.png")] if learning else []
    for path in (output / "gsimclr.md", output / "figures.json", *drawn):
        print(path)


def _plain(point: Point) -> dict[str, Any]:
    return {m: point.values(m) for m in COLUMNS if m in point.table} | {
        "pushed": {run: shares._asdict() for run, shares in point.pushed.items()}
    }


if __name__ == "__main__":
    try:
        main()
    except RepriseError as expected:
        sys.exit(f"error: {expected}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on from here")
