"""`python -m stages.mine.choose --name NAME --seed N`: which number of clusters suits a label set?

Mines the features of a row of `mines` with each number of clusters and compares: silhouette, Calinski-Harabasz and
Davies-Bouldin say how compact and separate the clusters are, stability how well they come back without some images.
Prints a table and a recommendation, and writes choice.json and choice.png below .reprise/choose. Nothing in the graph
changes: the number goes into params.yaml by hand, because what suits the features need not suit the batches (see
docs/explanation/mining.md).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprise.artifacts.layout import mined_from
from reprise.config.params import parse, read_yaml
from reprise.config.tables import row, tables
from reprise.runtime.entry import run_stage

if TYPE_CHECKING:
    import numpy as np

    from reprise.config.params import StrictModel
    from stages.mine.miner import Images, Miner

RESAMPLES = 3  # each leaves out a third of the images
ROWS = 2000  # for the silhouette
# Of each figure: whether a higher value is better.
FIGURES = {"silhouette": True, "calinski_harabasz": True, "davies_bouldin": False, "stability": True}


def main(argv: list[str]) -> None:
    """Parse, mine with every number, print and write the choice."""
    parser = argparse.ArgumentParser(prog="python -m stages.mine.choose", description=__doc__)
    parser.add_argument("--name", required=True, help="a row of `mines` in params.yaml whose miner takes `clusters`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clusters", type=int, nargs="+", help="numbers to try (default: doubling, up to images / 4)")
    parser.add_argument("--out", type=Path, help="a folder (default: .reprise/choose/NAME/SEED)")
    arguments = parser.parse_args(argv)
    raw = read_yaml()
    chosen = row(tables(raw).mines, arguments.name, "mines")

    from reprise.artifacts.embeddings import FILE, read_embeddings
    from reprise.config.plug_ins.registry import load_class
    from reprise.storage.atomic import write_json
    from stages.mine.label_sets.label_set import manifest_facts
    from stages.mine.miner import Miner

    miner_class = load_class("miners", chosen.miner, Miner, f"mines.{chosen.name}.miner")
    block = dict((raw.get("mining") or {}).get(chosen.name) or {})
    check_miner(miner_class, chosen.name, chosen.miner)
    source = mined_from(chosen.on, arguments.seed) / FILE
    keys, _, features = read_embeddings(source, miner_class.tap, split="train")
    numbers = sorted(set(arguments.clusters or doubling(len(features))))
    params = [parse(miner_class.Params, block | {"clusters": k}, f"mining.{chosen.name}") for k in numbers]
    rows = compare(miner_class, params, features, manifest_facts(keys)[1], arguments.seed)
    best, reason = recommended(rows)
    print(as_text(rows))
    print(f"recommended: clusters: {best} ({reason})")
    out = arguments.out or Path(".reprise/choose") / chosen.name / str(arguments.seed)
    choice = {"label_set": chosen.name, "seed": arguments.seed, "rows": rows, "recommended": best, "reason": reason}
    write_json(out / "choice.json", choice)
    write_plot(out / "choice.png", rows, best)
    print(f"written: {out}/choice.json, {out}/choice.png")


def check_miner(miner_class: type[Miner], name: str, miner: str) -> None:
    """Refuse miners that take no number of clusters, and those that read labels.

    Raises:
        MiningError: naming the miner.
    """
    from reprise.config.errors import MiningError
    from stages.mine.miner import ClusterParams

    if not issubclass(miner_class.Params, ClusterParams) or "clusters" not in miner_class.Params.model_fields:
        raise MiningError(
            "this miner takes no number of clusters",
            where=f"mines.{name}.miner",
            found=miner,
            fix="It finds the number itself; name a row with a miner such as kmeans.",
        )
    if miner_class.uses_truth:
        raise MiningError(
            "the number of clusters is chosen without labels, and this miner reads some",
            where=f"mines.{name}.miner",
            found=miner,
            fix="Name a row with a miner that reads none, on the same features, such as kmeans or gaussian_mixture.",
        )


def doubling(images: int) -> list[int]:
    """List 2, 4, 8 ... up to a quarter of the images, ten numbers at most."""
    return [2**power for power in range(1, 11) if 2**power <= max(2, images // 4)]


def compare(
    miner_class: type[Miner], params: list[Any], features: np.ndarray, images: Images, seed: int
) -> list[dict[str, Any]]:
    """Mine with each number of clusters: the figures of each, in order.

    Args:
        miner_class: of the row.
        params: the row's parameters, once for each number.
        features: (n, d) float32.
        images: facts that the miner may know.
        seed: of the miner and of the resamples.
    """
    from reprise.storage.progress import Progress
    from stages.mine.label_sets.resampling import resampled

    rows = []
    with Progress("clusters", len(params), "numbers") as progress, tempfile.TemporaryDirectory() as folder:
        for number, one in enumerate(params):

            def again(rows: np.ndarray, other: int, place: Path, one: StrictModel = one) -> np.ndarray:
                return miner_class(one, other).mine(features[rows], None, place).clusters

            work = Path(folder) / str(number)
            work.mkdir()
            began = time.monotonic()
            clusters = miner_class(one, seed, images).mine(features, None, work).clusters
            seconds = time.monotonic() - began
            _, stability = resampled(clusters, RESAMPLES, seed, work, again)
            rows.append({"clusters": one.clusters, "seconds": round(seconds, 2)} | figures(features, clusters, seed))
            rows[-1]["stability"] = round(stability, 6)
            progress.advance(1)
    return rows


def figures(features: np.ndarray, clusters: np.ndarray, seed: int) -> dict[str, Any]:
    """Compute the figures of one label set that need no labels."""
    from reprise.measures.cluster_quality import calinski_harabasz, davies_bouldin, silhouette, sizes_summary

    computed = {
        "silhouette": silhouette(features, clusters, ROWS, seed),
        "calinski_harabasz": calinski_harabasz(features, clusters),
        "davies_bouldin": davies_bouldin(features, clusters),
    }
    rounded = {name: None if value is None else round(value, 6) for name, value in computed.items()}
    return rounded | {"found": int(clusters.max()) + 1, "largest": sizes_summary(clusters)["size_max"]}


def recommended(rows: list[dict[str, Any]]) -> tuple[int, str]:
    """Choose the number with the best mean rank over the figures, the smaller one on a tie, and say why.

    A figure that is not defined for a number ranks last there. Equal values share a rank.

    Args:
        rows: as `compare` returns them.
    """
    ranks: dict[int, dict[str, int]] = {line["clusters"]: {} for line in rows}
    for figure, higher in FIGURES.items():
        for line in rows:
            better = [other for other in rows if _before(other[figure], line[figure], higher)]
            ranks[line["clusters"]][figure] = 1 + len(better)
    mean = {k: sum(of.values()) / len(of) for k, of in ranks.items()}
    best = min(mean, key=lambda k: (mean[k], k))
    shown = ", ".join(f"{figure.replace('_', '-')} {place}." for figure, place in ranks[best].items())
    return best, f"best mean rank, {mean[best]:.2f} of {len(rows)}: {shown}"


def _before(value: float | None, other: float | None, higher: bool) -> bool:
    if value is None or other is None:
        return value is not None and other is None
    return value > other if higher else value < other


def as_text(rows: list[dict[str, Any]]) -> str:
    """Form a table for the terminal."""
    names = ["clusters", "found", "largest", *FIGURES, "seconds"]
    lines = [[name.replace("_", "-") for name in names]]
    lines += [["-" if line[n] is None else f"{line[n]:.4g}" for n in names] for line in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def write_plot(path: Path, rows: list[dict[str, Any]], best: int) -> None:
    """Draw a panel for each figure over the number of clusters; the same rows give the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from reprise.storage.atomic import atomic_file

    figure = Figure(figsize=(9, 6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for place, (name, higher) in enumerate(FIGURES.items(), 1):
        panel = figure.add_subplot(2, 2, place)
        known = [line for line in rows if line[name] is not None]
        panel.plot([line["clusters"] for line in known], [line[name] for line in known], "o-", color="#2563a8")
        panel.axvline(best, color="#a84325", linestyle="--", linewidth=1)
        panel.set_xscale("log", base=2)
        panel.set_title(f"{name.replace('_', '-')} ({'higher' if higher else 'lower'} is better)", fontsize=10)
        panel.set_xlabel("clusters")
        panel.grid(alpha=0.3)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


if __name__ == "__main__":
    run_stage(main)
