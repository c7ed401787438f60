"""Do clusters that a training learns agree better with classes than those of k-means? Digits, seeds, paired intervals.

    python -m studies.learned_clusters [--out FOLDER] [--seeds 3] [--epochs 20] [--only NAME ...]

Every setting is trained by the stage `pretrain` on the embedded digits, embedded by the stage `embed`, and its
clusters are taken by the product's own miners; k-means (best of 10 starts) has the same number of clusters and the same
images. Accuracy pairs clusters and classes one to one (Hungarian). Printed, and written to FOLDER:
`learned-clusters.json` with the figures of every seed, from which a second call goes on, and the tables as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.paired import said

if TYPE_CHECKING:
    import numpy as np

CLASSES, SIZE, STARTS = 10, 16, 10
LARGE = {"hidden": 256, "output": 64}
Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Setting:
    """A training, and the miner that takes its clusters.

    Attributes:
        method: that trains.
        options: of the method.
        miner: with its parameters; None where only k-means on the features counts.
    """

    method: str
    options: dict[str, Any]
    miner: tuple[str, dict[str, Any]] | None = ("assigned", {})


SETTINGS = {
    "tcc": Setting("tcc", {**LARGE, "clusters": CLASSES, "queue": 1024}),
    "tcc_instances": Setting("tcc", {**LARGE, "clusters": CLASSES, "queue": 1024, "alpha": 0.0}),
    "nmce": Setting("nmce", {**LARGE, "clusters": CLASSES}),
    "nmce_features": Setting("nmce", {**LARGE, "clusters": CLASSES, "frozen_for": 0.5}),
    "mlc": Setting("mlc", {**LARGE, "output": 32}, ("spectral_membership", {"clusters": CLASSES})),
}
# What is compared: a set of clusters against another, by the names that `judged` gives them.
COMPARISONS = (
    ("tcc", "its clusters against k-means on pixels", "tcc", "pixels"),
    ("tcc", "its clusters against those of the same run without the cluster track", "tcc", "tcc_instances"),
    ("tcc", "its clusters against k-means on its own features", "tcc", "tcc:kmeans"),
    # The backbone of `nmce_features` stands still after phase 1: its features are those that `nmce` had then.
    ("nmce", "its clusters against k-means on its features of phase 1", "nmce", "nmce_features:kmeans"),
    ("nmce", "its clusters against those without phase 3", "nmce", "nmce_features"),
    ("mlc", "spectral clustering of its table against k-means on the same features", "mlc", "mlc:kmeans"),
)


# ------------------------------------------------------------------------------------------------------- digits
def make_workspace() -> None:
    """Ingest and shard the digits in the current folder."""
    from reprise.artifacts.layout import MANIFEST, SHARDS
    from reprise.artifacts.manifest import read_manifest
    from reprise.config.plug_ins.registry import load_class
    from reprise.runtime.entry import threads
    from stages.ingest.ingest import ingest
    from stages.ingest.params import SourceParams
    from stages.ingest.source import Source
    from stages.shard.params import ShardParams
    from stages.shard.write import write_shards

    source_class: Any = load_class("sources", "digits", Source, "")  # type: ignore[type-abstract]
    MANIFEST.parent.mkdir(parents=True)
    params = SourceParams(name="digits", val_fraction=0.0, test_fraction=0.3)
    ingest(source_class(Path(), source_class.Params()), params, MANIFEST.parent, threads())
    SHARDS.mkdir(parents=True)
    write_shards(read_manifest(), ShardParams(), SHARDS, 1)


def train(name: str, setting: Setting, seed: int, epochs: int) -> None:
    """Train and embed one setting with one seed."""
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
        "weight_decay": 1e-4, "warmup_epochs": 2, "checkpoint_steps": 10_000, "on_collapse": "warn",
    }  # fmt: skip
    params = load_class("methods", setting.method, Method, "").Params.model_validate(setting.options)
    row = RunRow(name=name, method=setting.method, labels="none")
    image = ImageParams(size=SIZE, channels=3)
    pretrain(row, seed, image, TrainParams.model_validate(shared), params, folder_of(name, seed), restart=True)
    embed(name, seed, EmbedParams(augmented=0), embedding(name, seed), restart=True)


def judged(name: str, setting: Setting, seed: int) -> Figures:
    """Compare the clusters of one training with the classes, and k-means on its features."""
    from reprise.artifacts.embeddings import FILE, read_embeddings
    from reprise.artifacts.layout import embedding
    from reprise.config.plug_ins.registry import load_class
    from stages.mine.miner import Miner

    path = embedding(name, seed) / FILE
    keys, _, features = read_embeddings(path, split="train")
    classes = classes_of(keys)
    found = {f"{name}:kmeans": compared(kmeans(features, seed), classes)}
    if setting.miner is not None:
        miner, options = setting.miner
        kind = load_class("miners", miner, Miner, "")
        taken = read_embeddings(path, kind.tap, "train")[2]
        mined = kind(kind.Params.model_validate(options), seed).mine(taken, None, Path())
        found[name] = compared(mined.clusters, classes)
    return found


def on_pixels(seed: int) -> Figures:
    """Compare k-means on the pixels with the classes; pixels between 0 and 1, as networks see them before views."""
    import numpy as np

    from reprise.artifacts.shards import Shards
    from reprise.reading.decoded import open_decoded

    shards = Shards.open()
    rows = shards.rows("train")
    pixels = np.array(open_decoded(shards, rows, 1).squares(SIZE)).reshape(len(rows), -1).astype(np.float32) / 255
    return {"pixels": compared(kmeans(pixels, seed), classes_of(shards.keys[rows]))}


def kmeans(features: np.ndarray, seed: int) -> np.ndarray:
    """Cluster (n, d) features into as many clusters as there are classes: (n,) int64."""
    import tempfile

    from reprise.config.plug_ins.registry import load_class
    from stages.mine.miner import Miner

    kind = load_class("miners", "kmeans", Miner, "")
    with tempfile.TemporaryDirectory() as work:
        params = kind.Params.model_validate({"clusters": CLASSES, "starts": STARTS})
        return kind(params, seed).mine(features, None, Path(work)).clusters


def classes_of(keys: np.ndarray) -> np.ndarray:
    """Return the class of each image: (n,) int64."""
    import numpy as np

    from reprise.artifacts.manifest import read_manifest

    table = read_manifest()
    labels = dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
    return np.array([int(labels[key]) for key in keys])


def compared(clusters: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Return accuracy (clusters and classes paired one to one) and normalised mutual information, in percent.

    What cannot be computed is left out.
    """
    from reprise.measures.cluster_quality import agreement

    found = agreement(clusters, classes)
    return {name: 100 * float(found[name]) for name in ("accuracy", "nmi") if found[name] is not None}


# ------------------------------------------------------------------------------------------------------- tables
def tables(results: dict[int, Figures]) -> str:
    """Write a table of all sets of clusters and one of comparisons, as Markdown.

    Args:
        results: by seed.
    """
    names = list(dict.fromkeys(name for figures in results.values() for name in figures))
    lines = ["| clusters | seeds | accuracy % | NMI % |", "|---|---|---|---|"]
    for name in names:
        seeds = [figures[name] for figures in results.values() if name in figures]
        cells = [
            ", ".join(f"{one[figure]:.1f}" if figure in one else "none" for one in seeds)
            for figure in ("accuracy", "nmi")
        ]
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} |")
    lines += ["", "| method | comparison | figure | difference | 95 % interval | |", "|---|---|---|---|---|---|"]
    for method, question, a, b in COMPARISONS:
        for figure in ("accuracy", "nmi"):
            pairs = [
                found[a][figure] - found[b][figure]
                for found in results.values()
                if figure in found.get(a, {}) and figure in found.get(b, {})
            ]
            if len(pairs) >= 2:
                lines.append(f"| {method} | {question} | {figure} | {' | '.join(said(pairs))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, judge, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(".reprise/studies/learned-clusters"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    options = parser.parse_args()
    from stages.mine.given import write_given

    out = options.out.resolve()
    (out / "work").mkdir(parents=True, exist_ok=True)
    os.chdir(out / "work")
    if not Path("data/shards").exists():
        make_workspace()
    write_given(range(options.seeds))
    kept = out / "learned-clusters.json"
    results: dict[int, Figures] = {}
    if kept.exists():
        results = {int(seed): figures for seed, figures in json.loads(kept.read_text(encoding="utf-8")).items()}
    for name in options.only:
        for seed in range(options.seeds):
            figures = results.setdefault(seed, {})
            figures |= {} if "pixels" in figures else on_pixels(seed)
            if f"{name}:kmeans" not in figures:
                began = time.process_time()
                train(name, SETTINGS[name], seed, options.epochs)
                figures |= judged(name, SETTINGS[name], seed)
                print(f"{name} seed {seed}: {time.process_time() - began:.0f} s of one core", flush=True)
                kept.write_text(json.dumps(results, indent=1), encoding="utf-8")
    text = tables(results)
    (out / "learned-clusters.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
