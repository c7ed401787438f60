"""What is learnt at one budget: our SimCLR and lightly's, same images, network, recipe and views, judged by one probe.

    python -m benchmarks.training.accuracy --data FOLDER [--epochs 15] [--seeds 2] [--precision bf16] [--json FILE]

FOLDER holds `train/<class>/*` and `test/<class>/*`, images of one size. lightly runs as its SimCLR example does
(LightlyDataset, SimCLRTransform, DataLoader, NTXentLoss), on the backbone and projector that ours starts from, with
the recipe that its CIFAR-10 benchmark uses: SGD 0.06, momentum 0.9, weight decay 5e-4, cosine decay after a warm-up;
views in the proportions of SimCLRTransform. Each network then embeds the images under its own normalisation, and kNN
(k = 20) and the linear classifier of Reprise judge both. Prints accuracies on test by seed, and how long each took.

lightly is optional: pip install "reprise[bench]"; without it its rows are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.training.throughput import SIDE, TEMPERATURE, VIEWS
from reprise.runtime.entry import prepare_process, threads
from reprise.storage.provenance import machine, versions

BATCH, RATE, DECAY, WARMUP = 256, 0.06, 5e-4, 2
WIDTHS = [128, 128, 64]  # of the projector
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # lightly's normalisation


def make_workspace(data: Path) -> None:
    """In the current folder: manifest and shards of the images, an empty label set, and train images for lightly."""
    import pyarrow as pa

    from reprise.artifacts.labels.label_sets import FILE, SCHEMA, write_pseudo_labels
    from reprise.artifacts.layout import MANIFEST, SHARDS
    from reprise.artifacts.manifest import read_manifest
    from reprise.artifacts.shards import Shards
    from reprise.storage.atomic import write_json
    from stages.ingest.ingest import ingest
    from stages.ingest.params import SourceParams
    from stages.ingest.sources.folder import Folder
    from stages.shard.params import ShardParams
    from stages.shard.write import write_shards

    MANIFEST.parent.mkdir(parents=True)
    source = SourceParams(name="folder", root=str(data), val_fraction=0.0, test_fraction=0.0)
    ingest(Folder(data, Folder.Params()), source, MANIFEST.parent, threads())
    write_json(MANIFEST.parent / "views.json", VIEWS)
    table = read_manifest()
    SHARDS.mkdir(parents=True)
    write_shards(table, ShardParams(), SHARDS, 1)
    shards = Shards.open()
    rows = [
        {"key": k, "cluster": None, "distance": None, "confidence": None, "round": 0}
        for k in shards.keys[shards.rows("train")]
    ]
    write_pseudo_labels(Path("data/mine/none/0") / FILE, pa.Table.from_pylist(rows, SCHEMA))
    Path("loose/all").mkdir(parents=True)
    for row in table.to_pylist():
        if row["split"] == "train":
            os.symlink(os.path.abspath(row["path"]), f"loose/all/{row['key']}{Path(row['path']).suffix}")


def train_reprise(architecture: str, epochs: int, seed: int, precision: str) -> tuple[Any, Any, Any]:
    """Our loop; the network and the mean and deviation of its input."""
    from reprise.config.params import ImageParams
    from reprise.config.plug_ins.registry import load_class
    from reprise.config.tables import RunRow
    from reprise.runtime.device import resolve_compute
    from reprise.training.params import TrainParams
    from stages.pretrain.inputs.images import read_inputs
    from stages.pretrain.method import Method
    from stages.pretrain.run import build_method, epochs_of, learn
    from stages.pretrain.setup import Setup

    image = ImageParams(size=SIDE, channels=3)
    params = TrainParams.model_validate(
        {
            "backbone": architecture,
            "epochs": epochs,
            "batch_size": BATCH,
            "precision": precision,
            "device": "cpu",
            "optimizer": "sgd",
            "learning_rate": RATE,
            "weight_decay": DECAY,
            "warmup_epochs": WARMUP,
        }
    )
    compute = resolve_compute("cpu", precision)
    simclr = load_class("methods", "simclr", Method, "")
    row = RunRow(name="simclr", method="simclr", labels="none")
    setup = Setup(row, seed, image, params, simclr.Params(temperature=TEMPERATURE), compute)
    inputs = read_inputs(Path("data/mine/none/0/pseudo_labels.parquet"), setup, simclr)
    method = build_method(simclr, setup, inputs)
    with tempfile.TemporaryDirectory() as work:
        learn(setup, method, inputs, epochs_of(setup, method, inputs), Path(work))
    return method.backbone, inputs.views.mean, inputs.views.std


def train_lightly(architecture: str, epochs: int, seed: int, precision: str) -> tuple[Any, Any, Any]:
    """The loop of lightly's SimCLR example, with a schedule by step as ours."""
    import math

    import torch
    from torch import nn
    from torch.utils.data import DataLoader

    from reprise.networks.backbone import build_backbone
    from reprise.networks.heads import Projector
    from reprise.networks.torchvision_schemas import ensure_torchvision_imports
    from reprise.runtime.seeds import seed_torch

    ensure_torchvision_imports()
    from lightly.data import LightlyDataset
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform

    seed_torch(seed, "backbone")
    backbone = build_backbone(architecture, 3, SIDE)
    seed_torch(seed, "heads")
    model = nn.Sequential(backbone, Projector([backbone.num_features, *WIDTHS])).train()
    torch.manual_seed(seed)
    dataset = LightlyDataset(input_dir="loose", transform=SimCLRTransform(input_size=SIDE))
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True)
    criterion = NTXentLoss(temperature=TEMPERATURE)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=DECAY)
    steps, warmup = epochs * len(loader), WARMUP * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: (s + 1) / warmup if s < warmup else (1 + math.cos(math.pi * (s - warmup) / (steps - warmup))) / 2,
    )
    for _ in range(epochs):
        for views, _, _ in loader:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
                loss = criterion(model(views[0]), model(views[1]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return backbone, *IMAGENET


def judge(backbone: Any, mean: Any, std: Any) -> dict[str, float]:
    """kNN and linear accuracy on test."""
    import numpy as np
    import torch

    from reprise.artifacts.manifest import read_manifest
    from reprise.artifacts.shards import Shards
    from reprise.measures.linear import Problem
    from reprise.measures.nearest.neighbours import classify
    from reprise.reading.decoded import open_decoded

    shards, table = Shards.open(), read_manifest()
    names = dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
    classes, found = sorted(set(names.values())), {}
    backbone.eval()
    for split in ("train", "test"):
        rows = shards.rows(split)
        pixels = torch.from_numpy(np.array(open_decoded(shards, rows, 3).resized(SIDE)))
        with torch.inference_mode():
            features = [
                backbone(((chunk.float() / 255 - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2)).float()
                for chunk in pixels.split(512)
            ]
        found[split] = torch.cat(features).numpy(), np.array([classes.index(names[k]) for k in shards.keys[rows]])
    (x, y), (x_test, y_test) = found["train"], found["test"]
    linear = Problem(x, y).fit(1e-3).predict(x_test)[0]
    return {
        "knn": round(float((classify(x_test, x, y, len(classes), 20, 0.07)[0] == y_test).mean()), 4),
        "linear": round(float((linear == y_test).mean()), 4),
    }


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--architecture", default="resnet20")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    prepare_process()
    data = options.data.resolve()
    target = options.json.resolve() if options.json else None
    peer = importlib.util.find_spec("lightly") is not None
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="reprise-bench-") as scratch:
        os.chdir(scratch)
        make_workspace(data)
        for seed in range(options.seeds):
            for name, train in (("reprise", train_reprise), *([("lightly", train_lightly)] if peer else [])):
                began = time.perf_counter()
                network = train(options.architecture, options.epochs, seed, options.precision)
                seconds = round(time.perf_counter() - began, 1)
                rows.append({"by": name, "seed": seed, "seconds": seconds, **judge(*network)})
                print(json.dumps(rows[-1]), flush=True)
        os.chdir("/")
    report = {
        "machine": machine(),
        "threads": threads(),
        "versions": versions(),
        "epochs": options.epochs,
        "architecture": options.architecture,
        "precision": options.precision,
        "rows": rows,
    }
    if target:
        target.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
