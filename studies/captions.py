"""What captions give a backbone, on drawn pictures of which everything is known.

    nice -n 10 python -m studies.captions [--out FOLDER] [--seeds 3] [--epochs 20] [--images 2000]

Each setting is trained on the pictures of the source `shapes`, one after the other in this process. Judged on the test
pictures: how well the shape (the class) and its colour are read from the features by kNN (k = 20) and by a linear
classifier that learn from the training pictures, and zero-shot accuracy of the shape, with sentences like the shorter
captions. Written: `captions.json` with the figure of every seed, and `captions.md` with means and paired intervals.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.paired import said

if TYPE_CHECKING:
    import numpy as np

SGD: dict[str, Any] = {}  # what params.yaml trains with
ADAMW = {"optimizer": "adamw", "learning_rate": 0.002, "weight_decay": 0.01}
WHOLE = [{"name": "crop", "scale_min": 0.8}]  # what captions say stays true: no colours change, little is cut off
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {}),
    "simclr": ("simclr", {}),
    "clip": ("clip", SGD),
    "clip_adamw": ("clip", ADAMW),
    "clip_adamw_whole": ("clip", {**ADAMW, "views": WHOLE}),
}
PAIRS = [
    ("clip", "random"), ("clip_adamw", "clip"), ("clip_adamw_whole", "clip_adamw"),
    ("clip", "simclr"), ("clip_adamw", "simclr"), ("clip_adamw_whole", "simclr"),
]  # fmt: skip
FIGURES = ("shape_knn", "shape_linear", "colour_knn", "colour_linear", "zero_shot")
Figures = dict[str, float]


def make_workspace(images: int, seeds: int) -> None:
    """Draw the pictures in the current folder, pack them, and write an empty and a true label set for every seed."""
    import pyarrow as pa

    from reprise.artifacts.labels.label_sets import FILE, SCHEMA, write_pseudo_labels
    from reprise.artifacts.layout import INGEST, SHARDS, label_set
    from reprise.artifacts.manifest import read_manifest
    from reprise.config.plug_ins.registry import load_class
    from reprise.runtime.entry import threads
    from stages.ingest.ingest import ingest
    from stages.ingest.params import SourceParams
    from stages.ingest.source import Source
    from stages.shard.params import ShardParams
    from stages.shard.write import write_shards

    INGEST.mkdir(parents=True)
    source_class: Any = load_class("sources", "shapes", Source, "")  # type: ignore[type-abstract]
    params = SourceParams(name="shapes", root=".", val_fraction=0.0, test_fraction=0.4)
    ingest(source_class(Path("."), source_class.Params(images=images)), params, INGEST, threads())
    SHARDS.mkdir(parents=True)
    write_shards(read_manifest(), ShardParams(), SHARDS, 1)
    rows = [row for row in read_manifest(columns=["key", "label", "split"]).to_pylist() if row["split"] == "train"]
    names = sorted({row["label"] for row in rows})
    for seed in range(seeds):
        for name, number in (("none", None), ("truth", names.index)):
            listed = [
                {"key": row["key"], "cluster": number and number(row["label"]), "round": 0}
                | {"distance": None, "confidence": None}
                for row in rows
            ]
            write_pseudo_labels(label_set(name, seed) / FILE, pa.Table.from_pylist(listed, SCHEMA))


def train(name: str, seed: int, epochs: int) -> Figures:
    """Train one setting with one seed and judge it."""
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

    method, options = SETTINGS[name]
    shared: dict[str, Any] = {
        "backbone": "resnet_tiny", "epochs": epochs, "batch_size": 64, "optimizer": "sgd", "learning_rate": 0.2,
        "weight_decay": 1e-4, "warmup_epochs": 2, "checkpoint_steps": 10_000, "on_collapse": "warn",
    }  # fmt: skip
    method_class = load_class("methods", method, Method, "")
    row = RunRow(name=name, method=method, labels="none")
    run_facts(name).mkdir(parents=True, exist_ok=True)
    write_facts(run_facts(name), facts_of_run(gather(FactsParams())[0], method_class.reads))
    params = method_class.Params.model_validate(options)
    image, budget = ImageParams(size=24, channels=3), TrainParams.model_validate(shared)
    pretrain(row, seed, image, budget, params, folder_of(name, seed), restart=True)
    out = Path("data/embed") / name / str(seed)
    embed(name, seed, EmbedParams(augmented=0), out, restart=True)
    return judged(out, folder_of(name, seed))


def judged(embedding: Path, run: Path) -> Figures:
    """Return the accuracies of one run, in percent."""
    import numpy as np

    from reprise.artifacts.embeddings import FILE, read_embeddings
    from reprise.artifacts.facts.table import read_facts
    from reprise.artifacts.layout import INGEST
    from reprise.artifacts.manifest import read_manifest
    from reprise.measures.linear import Problem
    from reprise.measures.nearest.neighbours import classify

    table = read_manifest()
    shape = dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
    facts = read_facts(INGEST)
    known = {"shape": shape, "colour": dict(zip(facts.keys.tolist(), facts.columns["colour"].tolist(), strict=True))}
    (keys, _, x), (new, _, x_test) = (read_embeddings(embedding / FILE, "backbone", s) for s in ("train", "test"))
    found: Figures = {}
    for what, values in known.items():
        names = sorted(set(values.values()))
        y, y_test = (np.array([names.index(values[key]) for key in part]) for part in (keys, new))
        nearest = classify(x_test, x, y, len(names), 20, 0.07)[0]
        linear = Problem(x, y).fit(1e-3).predict(x_test)[0]
        found[f"{what}_knn"] = 100 * float((nearest == y_test).mean())
        found[f"{what}_linear"] = 100 * float((linear == y_test).mean())
    if (run / "text.json").exists():
        names = sorted(set(shape.values()))
        answers = zero_shot(run, x_test, names)
        found["zero_shot"] = 100 * float(np.mean([names[a] == shape[key] for a, key in zip(answers, new, strict=True)]))
    return found


def zero_shot(run: Path, features: np.ndarray, names: list[str]) -> np.ndarray:
    """Return the shape whose captions in eight colours lie nearest to each image: (n,) int64."""
    import torch
    import torch.nn.functional as F

    from reprise.artifacts.weights.backbones import open_weights, read_config
    from reprise.artifacts.weights.text_models import read_text_model
    from reprise.networks.assemble import assemble
    from reprise.networks.text.encoder import text_encoder
    from stages.ingest.sources.shapes import COLOURS

    encoder = text_encoder(*read_text_model(run), str(run))
    texts = [f"{'an' if name[0] in 'aeiou' else 'a'} {name} in {colour}" for name in names for colour in COLOURS]
    classes = F.normalize(encoder.encode(texts).reshape(len(names), len(COLOURS), -1).mean(dim=1), dim=1)
    projector = assemble(read_config(run), *open_weights(run), where=str(run)).projector
    assert projector is not None, "a run with a text side has a projector"
    with torch.no_grad():
        images = F.normalize(projector(torch.from_numpy(features).float()), dim=1)
    return (images @ classes.T).argmax(dim=1).numpy()


def tables(results: dict[str, dict[int, Figures]]) -> str:
    """Write the means of each setting, and paired differences, as Markdown."""
    lines = [f"| setting | seeds | {' | '.join(FIGURES)} |", "|---" * (len(FIGURES) + 2) + "|"]
    for name, seeds in results.items():
        cells = []
        for figure in FIGURES:
            values = [figures[figure] for figures in seeds.values() if figure in figures]
            cells.append(f"{sum(values) / len(values):.1f}" if values else "")
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} |")
    lines += ["", "| comparison | figure | seeds | difference | 95 % interval | |", "|---|---|---|---|---|---|"]
    for a, b in PAIRS:
        common = sorted(results.get(a, {}).keys() & results.get(b, {}).keys())
        for figure in FIGURES if len(common) > 1 else ():
            if figure not in results[a][common[0]] or figure not in results[b][common[0]]:
                continue
            cells = " | ".join(said([results[a][s][figure] - results[b][s][figure] for s in common]))
            lines.append(f"| {a} against {b} | {figure} | {len(common)} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, judge, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(".reprise/studies/captions"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--only", nargs="+", default=list(SETTINGS), help="names of settings")
    options = parser.parse_args()
    out, began = options.out.resolve(), time.time()
    results: dict[str, dict[int, Figures]] = {name: {} for name in options.only}
    with tempfile.TemporaryDirectory(prefix="reprise-captions-") as scratch:
        os.chdir(scratch)
        make_workspace(options.images, options.seeds)
        for seed in range(options.seeds):
            for name in options.only:
                results[name][seed] = train(name, seed, options.epochs)
                print(f"{time.time() - began:.0f} s: {name} seed {seed}: {json.dumps(results[name][seed])}", flush=True)
        os.chdir("/")
    out.mkdir(parents=True, exist_ok=True)
    (out / "captions.md").write_text(tables(results), encoding="utf-8")
    (out / "captions.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(tables(results))


if __name__ == "__main__":
    from reprise.runtime.entry import prepare_process

    prepare_process()
    main()
