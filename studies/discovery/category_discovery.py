"""New classes beside known ones: does `proto_contrast` cluster better than the mixture on frozen features?

    python -m studies.discovery.category_discovery [--seeds 3] [--epochs 10] [--rounds 2]

On the embedded digits 0 to 4 are known, and half of their training images show their label; 5 to 9 are new. SimCLR is
trained without labels and embedded; the miner `semi_supervised_mixture` on it is the frozen baseline (round 0). In
each round `proto_contrast` goes on from the weights before it with the label set before it, and is embedded and mined
again. SimCLR that goes on for as long without labels tells what more training alone gives. All of it goes through the
stages of the product. Printed: accuracy (one pairing of clusters with classes) of the training images whose label was
hidden, of known classes, new ones and all, and paired differences over the seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from typing import Any

from studies.paired import said
from studies.views import make_workspace

SIZE, COLUMNS = 16, ("accuracy_old", "accuracy_new", "accuracy", "clusters")
KNOWN: dict[str, Any] = {"known": ["0", "1", "2", "3", "4"], "labelled": 0.5, "clusters": 10, "components": 16}


def trained(name: str, method: str, seed: int, epochs: int, labels: str, after: str | None) -> None:
    """Train a run by the stage `pretrain`, from the weights of the run `after`, and embed it."""
    from reprise.artifacts.layout import embedding
    from reprise.artifacts.layout import run as folder_of
    from reprise.config.params import ImageParams
    from reprise.config.plug_ins.registry import load_class
    from reprise.config.tables import AdaptRow, RunRow
    from reprise.training.params import TrainParams
    from stages.embed.embedding import embed
    from stages.embed.params import EmbedParams
    from stages.pretrain.method import Method
    from stages.pretrain.run import pretrain

    shared: dict[str, Any] = {
        "backbone": "resnet_tiny", "epochs": epochs, "batch_size": 128, "optimizer": "sgd", "learning_rate": 0.2,
        "weight_decay": 1e-4, "warmup_epochs": 1, "checkpoint_steps": 10_000, "on_collapse": "warn",
        "precision": "fp32",
    }  # fmt: skip
    stated: dict[str, Any] = {"name": name, "method": method, "labels": labels}
    row = RunRow(**stated) if after is None else AdaptRow(**stated, **{"from": f"runs/{after}"})
    params = load_class("methods", method, Method, "").Params.model_validate({"temperature": 0.2})
    image, train = ImageParams(size=SIZE, channels=3), TrainParams.model_validate(shared)
    pretrain(row, seed, image, train, params, folder_of(name, seed), restart=True)
    embed(name, seed, EmbedParams(augmented=0), embedding(name, seed), restart=True)


def mined(name: str, run: str, seed: int) -> dict[str, float]:
    """Mine the embedding of a run with some labels, by the stage `mine`, and return its figures."""
    from reprise.artifacts.layout import label_set
    from reprise.config.plug_ins.registry import load_class
    from reprise.config.tables import MineRow
    from stages.mine.label_sets.label_set import mine
    from stages.mine.miner import Miner

    kind = load_class("miners", "semi_supervised_mixture", Miner, "")
    row, out = MineRow(name=name, miner="semi_supervised_mixture", on=f"embed/{run}"), label_set(name, seed)
    mine(row, kind, kind.Params.model_validate(KNOWN), seed, out, restart=True)
    figures = json.loads((out / "quality.json").read_text(encoding="utf-8"))
    return {column: float(figures[column]) for column in COLUMNS}


def discovered(seed: int, epochs: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return the figures of the frozen baseline, of every round, and of SimCLR that goes on."""
    trained("simclr", "simclr", seed, epochs, "none", None)
    found = {"frozen": mined("semi", "simclr", seed)}
    trained("more", "simclr", seed, epochs, "none", "simclr")
    found["simclr, twice as long"] = mined("semi_more", "more", seed)
    before, labels = "simclr", "semi"
    for number in range(1, rounds + 1):
        name = f"gpc{number}"
        trained(name, "proto_contrast", seed, epochs, labels, before)
        before, labels = name, f"semi{number}"
        found[f"round {number}"] = mined(labels, name, seed)
    return found


def main() -> None:
    """Run all seeds, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    results: list[dict[str, dict[str, float]]] = []
    print("| seed | features | known classes % | new classes % | all % | clusters |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="reprise-discovery-") as scratch:
        os.chdir(scratch)
        make_workspace(None)
        for seed in range(options.seeds):
            began = time.monotonic()
            results.append(discovered(seed, options.epochs, options.rounds))
            for name, row in results[-1].items():
                cells = [f"{100 * row[column]:.1f}" for column in COLUMNS[:3]]
                print(f"| {seed} | {name} | {' | '.join(cells)} | {row['clusters']:.0f} |", flush=True)
            print(f"seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
        os.chdir("/")
    if len(results) < 2:
        return
    print("\n| compared with frozen features | figure | difference | 95 % interval |\n|---|---|---|---|")
    for name in list(results[0])[1:]:
        for column in COLUMNS[:3]:
            mean, interval, _ = said([100 * (row[name][column] - row["frozen"][column]) for row in results])
            print(f"| {name} | {column} | {mean} | {interval} |")


if __name__ == "__main__":
    main()
