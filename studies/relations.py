"""What mined pairs and labels in common give: matched frames, wrong pairs, closed pairs, several labels an image.

    nice -n 10 python -m studies.relations PART [--out FOLDER] [--seeds 0 1 2] [--epochs 10] [--toy]

PART is one of

    matching     of clips with occlusion: are matched pairs of `frame_matching` more often right than nearest ones?
    reliability  with 40 % of the pairs made wrong: does `pair_contrast` lose less where sure pairs count more?
    transitive   closed pairs of `transitive_pairs`: of one class? Better to train on than either kind of edge alone?
    soft         mosaics of digits: do features of `softcon` lie as their labels agree, more than those of `moco_v2`?

Images are drawn (sources `clips` and `mosaic`), every setting is trained by the stage `pretrain` and embedded by the
stage `embed`, one after the other in this process. Written: `<part>.json` with the figure of every seed, and
`<part>.md` with means and paired intervals; seeds that the file holds already stay in it. `--toy` tries a part with few
images and one epoch; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.paired import Comparison, Results, settings_and_differences

if TYPE_CHECKING:
    import numpy as np

SIDE = 16  # of all images
NEAR = [{"name": "crop", "scale_min": 0.6}]  # colours tell things of a clip apart, so they stay as they are
APART = [{"name": "crop", "scale_min": 0.4}, {"name": "colour", "strength": 0.8, "probability": 0.8}, "grey"]
WRONG = 0.4  # share of the pairs that is made wrong
CLIPS: dict[str, Any] = {"size": SIDE, "objects": 4, "frames": 6, "occlusion": 0.8, "alike": 0.5}
TRACKS: dict[str, Any] = {"size": SIDE, "objects": 1, "frames": 6}
DIGITS: dict[str, Any] = {"size": SIDE, "things": "digits", "most": 3, "given": ["flags"]}
FLAGS = tuple(f"has_{digit}" for digit in range(10))
TAUGHT: dict[str, Any] = {"momentum": 0.99, "momentum_end": 0.99, "queue": 512}
Figures = dict[str, float]


COMPARISONS = {
    "matching": [
        Comparison("matched", "nearest", "precision"),
        Comparison("matched, all", "nearest, all", "precision"),
    ],
    "reliability": [
        Comparison("wrong pairs, power 0", "right pairs, power 0", "rank-1"),
        Comparison("wrong pairs, power 1", "right pairs, power 1", "rank-1"),
        Comparison("right pairs, power 1", "right pairs, power 0", "rank-1"),
        Comparison("wrong pairs, power 1", "wrong pairs, power 0", "rank-1"),
    ],
    "transitive": [Comparison("closed", kind, "kNN") for kind in ("inter", "intra", "all", "random")],
    "soft": [Comparison("softcon", "moco_v2", figure) for figure in ("spearman", "mAP")],
}


# ------------------------------------------------------------------------------------------------- images, trainings
def draw(source: str, options: dict[str, Any], test: float) -> None:
    """Draw the images in the current folder, pack them, and write an empty label set for every seed."""
    from reprise.artifacts.facts.names import FILE as NAMES
    from reprise.artifacts.layout import INGEST, SHARDS
    from reprise.artifacts.manifest import read_manifest
    from reprise.config.plug_ins.registry import load_class
    from reprise.runtime.entry import threads
    from stages.ingest.ingest import ingest
    from stages.ingest.params import SourceParams
    from stages.ingest.source import Source
    from stages.shard.params import ShardParams
    from stages.shard.write import write_shards

    INGEST.mkdir(parents=True)
    source_class: Any = load_class("sources", source, Source, "")  # type: ignore[type-abstract]
    params = SourceParams(name=source, root=".", val_fraction=0.0, test_fraction=test)
    ingest(source_class(Path("."), source_class.Params(**options)), params, INGEST, threads())
    SHARDS.mkdir(parents=True)
    write_shards(read_manifest(), ShardParams(), SHARDS, 1)
    if (INGEST / NAMES).exists():
        shutil.copyfile(INGEST / NAMES, SHARDS / NAMES)
    for seed in range(10):
        write_label_set("none", seed)


def write_label_set(name: str, seed: int, pairs: Any = None) -> None:
    """Write a label set without clusters, and its pairs where there are some."""
    import numpy as np

    from reprise.artifacts.labels.label_sets import FILE, write_pseudo_labels
    from reprise.artifacts.labels.pairs import FILE as PAIRS
    from reprise.artifacts.labels.pairs import write_pairs
    from reprise.artifacts.layout import label_set
    from reprise.storage.work_folder import file_digest
    from stages.mine.label_sets.label_set import as_table, pairs_table
    from stages.mine.miner import Mined

    keys, folder = training_keys(), label_set(name, seed)
    folder.mkdir(parents=True, exist_ok=True)
    digest = None
    if pairs is not None:
        write_pairs(folder / PAIRS, pairs_table(keys, pairs))
        digest = file_digest(folder / PAIRS)
    write_pseudo_labels(folder / FILE, as_table(keys, Mined(np.full(len(keys), -1))), digest)


def training_keys() -> np.ndarray:
    """Return the keys of the training images, sorted."""
    from reprise.artifacts.shards import Shards

    shards = Shards.open()
    return shards.keys[shards.rows("train")]


def pixels() -> np.ndarray:
    """Compute the features of the extractor `pixels` of the training images: (n, 32)."""
    import numpy as np

    from reprise.artifacts.shards import Shards
    from reprise.measures.principal import Rows, principal_basis
    from reprise.reading.decoded import open_decoded

    shards = Shards.open()
    rows = Rows(np.array(open_decoded(shards, shards.rows("train"), 3).resized(SIDE)), 255.0)
    return rows.projected(principal_basis(rows, 32, None))


def train(
    name: str, method: str, options: dict[str, Any], labels: str, seed: int, epochs: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Train one setting: split -> keys and features."""
    from reprise.artifacts.embeddings import FILE, read_embeddings
    from reprise.artifacts.facts.table import write_facts
    from reprise.artifacts.layout import run as folder_of
    from reprise.artifacts.layout import run_facts
    from reprise.config.params import ImageParams
    from reprise.config.plug_ins.registry import load_class
    from reprise.config.tables import RunRow
    from reprise.training.params import TrainParams
    from stages.embed.embedding import embed
    from stages.embed.params import EmbedParams
    from stages.facts.gather import facts_of_run, gather
    from stages.facts.params import FactsParams
    from stages.pretrain.method import Method
    from stages.pretrain.run import pretrain

    shared: dict[str, Any] = {
        "backbone": "resnet_tiny", "epochs": epochs, "batch_size": 64, "optimizer": "sgd", "learning_rate": 0.4,
        "weight_decay": 1e-4, "warmup_epochs": min(2, epochs - 1), "checkpoint_steps": 10_000, "on_collapse": "warn",
    }  # fmt: skip
    method_class = load_class("methods", method, Method, "")
    params = method_class.Params.model_validate(options)
    row = RunRow(name=name, method=method, labels=labels)
    run_facts(name).mkdir(parents=True, exist_ok=True)
    write_facts(run_facts(name), facts_of_run(gather(FactsParams())[0], method_class.facts_read(params)))
    image, budget = ImageParams(size=SIDE, channels=3), TrainParams.model_validate(shared)
    pretrain(row, seed, image, budget, params, folder_of(name, seed), restart=True)
    out = Path("data/embed") / name / str(seed)
    embed(name, seed, EmbedParams(augmented=0), out, restart=True)
    return {split: read_embeddings(out / FILE, "backbone", split)[::2] for split in ("train", "test")}


def known(names: Sequence[str], keys: np.ndarray) -> dict[str, np.ndarray]:
    """Look up facts, or the label, of some images."""
    import numpy as np

    from reprise.artifacts.facts.table import read_facts
    from reprise.artifacts.layout import INGEST
    from reprise.artifacts.manifest import read_manifest

    table, facts = read_manifest(), read_facts(INGEST).joined(keys)
    label = dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
    return {n: np.array([label[k] for k in keys], object) if n == "label" else facts.columns[n] for n in names}


# -------------------------------------------------------------------------------------------------------- matching
def matching(seed: int, epochs: int, toy: bool) -> Iterator[tuple[str, Figures]]:
    """Match frames that lie two apart, one to one and each with its nearest, on clips of this seed."""
    import numpy as np

    from reprise.measures.unit_vectors import unit
    from stages.mine.frames import FRAME, frames_of
    from stages.mine.label_sets.label_set import manifest_facts
    from stages.mine.miners.frame_matching import FrameMatching, MatchingParams

    draw("clips", {**CLIPS, "clips": 10 if toy else 60, "frames": 8, "seed": seed}, 0.0)
    keys, features = training_keys(), pixels()
    who = known(["identity"], keys)["identity"]
    _, images = manifest_facts(keys)
    x = unit(features, np.float32)
    for kept, threshold in (("", 0.5), (", all", -1.0)):
        pairs = FrameMatching(MatchingParams(gap=2, threshold=threshold), 0, images).mine(features, None, Path()).pairs
        assert pairs is not None
        near = []
        for frames in frames_of(images, FRAME, "").values():
            for here, there in zip(frames, frames[2:], strict=False):
                similarity = x[here] @ x[there].T
                best = similarity.argmax(axis=1)
                near += [
                    (a, there[b]) for a, b, s in zip(here, best, similarity.max(axis=1), strict=True) if s >= threshold
                ]
        for name, found in (("matched", pairs.rows), ("nearest", np.array(near))):
            right = float((who[found[:, 0]] == who[found[:, 1]]).mean())
            yield name + kept, {"precision": 100 * right, "pairs": float(len(found))}


# ----------------------------------------------------------------------------------------------------- reliability
def reliability(seed: int, epochs: int, toy: bool) -> Iterator[tuple[str, Figures]]:
    """Train on pairs of which some are made wrong, each with the weight that the miner gives to such a pair."""
    import numpy as np

    from stages.mine.label_sets.label_set import manifest_facts

    draw("clips", {**CLIPS, "clips": 12 if toy else 60, "seed": 100}, 0.5)
    keys, features = training_keys(), pixels()
    who = known(["identity"], keys)["identity"]
    _, images = manifest_facts(keys)
    for name, share in (("right", 0.0), ("wrong", WRONG)):
        pairs = made_pairs(features, who, images, share, np.random.default_rng(seed))
        write_label_set(name, seed, pairs)
        for power in (0.0, 1.0):
            options = {"power": power, "views": NEAR}
            found = train(f"{name}_{power:g}", "pair_contrast", options, name, seed, epochs)["test"]
            yield f"{name} pairs, power {power:g}", {"rank-1": rank_1(*found)}


def made_pairs(features: np.ndarray, who: np.ndarray, images: Any, share: float, rng: Any) -> Any:
    """Join every image of a pair with what is itself in the later frame, and a share of them with something else there.

    The weight of each pair is that of `frame_matching`: the mean of both softmaxes over the similarities.
    """
    import numpy as np
    from scipy.special import softmax

    from reprise.measures.unit_vectors import unit
    from stages.mine.frames import FRAME, frames_of
    from stages.mine.miner import Pairs

    x = unit(features, np.float32).astype(np.float64)
    rows, weights = [], []
    for frames in frames_of(images, FRAME, "").values():
        for here, there in pairwise(frames):
            scaled = x[here] @ x[there].T / 0.1
            probability = (softmax(scaled, axis=1) + softmax(scaled, axis=0)) / 2
            for i in range(len(here)):
                same = who[there] == who[here[i]]
                fits = np.flatnonzero(~same if rng.random() < share else same)
                if len(fits):
                    j = int(rng.choice(fits))
                    rows.append((here[i], there[j]))
                    weights.append(probability[i, j])
    count = len(rows)
    kind = np.full(count, "matched", dtype=object)
    return Pairs(np.array(rows), np.clip(weights, 1e-6, 1).astype(np.float32), kind, np.ones(count, np.int64))


def rank_1(keys: np.ndarray, features: np.ndarray) -> float:
    """Return how often the nearest image of all first frames shows what an image of a last frame shows, in percent."""
    import numpy as np

    from reprise.measures.unit_vectors import unit

    facts, x = known(["identity", "frame"], keys), unit(features, np.float32)
    gallery, query = np.flatnonzero(facts["frame"] == 0), np.flatnonzero(facts["frame"] == facts["frame"].max())
    nearest = gallery[(x[query] @ x[gallery].T).argmax(axis=1)]
    return 100 * float((facts["identity"][query] == facts["identity"][nearest]).mean())


# ------------------------------------------------------------------------------------------------------ transitive
def transitive(seed: int, epochs: int, toy: bool) -> Iterator[tuple[str, Figures]]:
    """Mine pairs on the features of `simclr`, and train `triplet` on each kind of them alone and on all."""
    import numpy as np

    from stages.mine.label_sets.label_set import manifest_facts
    from stages.mine.label_sets.pair_figures import pair_figures
    from stages.mine.miner import Pairs
    from stages.mine.miners.transitive_pairs import TransitivePairs, TransitiveParams

    draw("clips", {**TRACKS, "clips": 40 if toy else 240, "seed": 100}, 0.3)
    found = train("random", "random", {}, "none", seed, epochs)
    yield "random", {"kNN": nearest_classes(found)}
    found = train("simclr", "simclr", {"temperature": 0.2, "views": APART}, "none", seed, epochs)
    yield "simclr, for the features", {"kNN": nearest_classes(found)}
    truth, images = manifest_facts(found["train"][0])
    mined = TransitivePairs(TransitiveParams(neighbours=2, threshold=0.8), seed, images)
    pairs = mined.mine(found["train"][1].astype(np.float32), None, Path()).pairs
    assert pairs is not None
    figures = pair_figures(pairs, truth, 4)
    precision = {f"over {hops}": share for hops, share in figures["precision_by_hops"].items()}
    precision |= figures["precision_by_kind"]
    by_name = {name: 100 * float(share) for name, share in precision.items() if share is not None}
    yield "precision", by_name | {f"pairs {k}": float((pairs.kind == k).sum()) for k in set(pairs.kind.tolist())}
    for name in ("inter", "intra", "closed", "all"):
        chosen = np.ones(len(pairs.rows), bool) if name == "all" else pairs.kind == name
        kept = Pairs(pairs.rows[chosen], pairs.weight[chosen].clip(1e-6), pairs.kind[chosen], pairs.hops[chosen])
        write_label_set(name, seed, kept)
        options = {"views": APART}
        yield name, {"kNN": nearest_classes(train(f"triplet_{name}", "triplet", options, name, seed, epochs))}


def nearest_classes(found: dict[str, tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the kNN accuracy (k = 20) of the class on the test images, in percent."""
    import numpy as np

    from reprise.measures.nearest.neighbours import classify

    labels = {split: known(["label"], keys)["label"] for split, (keys, _) in found.items()}
    names = sorted(set(labels["train"]))
    y, y_test = (np.array([names.index(label) for label in labels[split]]) for split in ("train", "test"))
    nearest = classify(found["test"][1], found["train"][1], y, len(names), 20, 0.07)[0]
    return 100 * float((nearest == y_test).mean())


# ------------------------------------------------------------------------------------------------------------ soft
def soft(seed: int, epochs: int, toy: bool) -> Iterator[tuple[str, Figures]]:
    """Train `moco_v2` and `softcon` on mosaics of digits, and look at all pairs of test images."""
    draw("mosaic", {**DIGITS, "images": 100 if toy else 1000, "seed": 100}, 0.0)
    for name, options in (("moco_v2", {}), ("softcon", {"facts": FLAGS})):
        shared = {**TAUGHT, "views": [{"name": "crop", "scale_min": 0.6}, {"name": "colour", "strength": 0.5}, "grey"]}
        yield name, agreement_of(train(name, name, {**shared, **options}, "none", seed, epochs))


def agreement_of(found: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figures:
    """Return the rank correlation of similarities and agreements over all pairs of test images, and mAP, in percent."""
    import numpy as np
    from scipy.stats import spearmanr

    from reprise.measures.linear import Problem
    from reprise.measures.unit_vectors import unit
    from stages.probe.probes.quality.multilabel import average_precision

    flags = {
        split: np.stack(list(known(FLAGS, keys).values()), axis=1).astype(np.float64)
        for split, (keys, _) in found.items()
    }
    x, shown = unit(found["test"][1], np.float32), unit(flags["test"], np.float64)
    above = np.triu_indices(len(x), 1)
    correlation = float(spearmanr((x @ x.T)[above], (shown @ shown.T)[above]).statistic)
    problem = Problem(found["train"][1], (2 * flags["train"] - 1).astype(np.int64), loss="logistic")
    scores = problem.fit(1e-3).logits(found["test"][1])
    each = [float(average_precision(s, y > 0)[0]) for s, y in zip(scores.T, flags["test"].T, strict=True)]
    return {"spearman": correlation, "mAP": 100 * float(np.mean(each))}


# ---------------------------------------------------------------------------------------------------------- tables
def tables(part: str, results: Results) -> str:
    """Write the means of each setting, and paired differences, as Markdown."""
    return settings_and_differences(results, COMPARISONS[part], lambda figure: 3 if figure == "spearman" else 1)


PARTS = {"matching": matching, "reliability": reliability, "transitive": transitive, "soft": soft}


def main() -> None:
    """Draw, train, judge, and write the tables of one part, with the seeds that its file holds already."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--out", type=Path, default=Path(".reprise/studies/relations"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    epochs = 1 if options.toy else options.epochs
    out, began = options.out.resolve(), time.time()
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{options.part}.json"
    results: Results = {}
    for name, seeds in json.loads(file.read_text(encoding="utf-8")).items() if file.exists() else ():
        results[name] = {int(seed): figures for seed, figures in seeds.items()}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory(prefix="reprise-relations-") as scratch:
            os.chdir(scratch)
            for name, figures in PARTS[options.part](seed, epochs, options.toy):
                results.setdefault(name, {})[seed] = figures
                print(f"{time.time() - began:.0f} s: {name}, seed {seed}: {json.dumps(figures)}", flush=True)
                file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
                file.with_suffix(".md").write_text(tables(options.part, results), encoding="utf-8")
            os.chdir("/")
    print(tables(options.part, results))


if __name__ == "__main__":
    from reprise.runtime.entry import prepare_process

    prepare_process()
    main()
