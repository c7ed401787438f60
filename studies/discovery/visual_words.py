"""Does predicting bags of visual words help? `obow` against the untrained network, on photographs of 24 pixels.

    python -m studies.discovery.visual_words --data FOLDER [--seeds 3] [--epochs 20] [--words 2048] [--patches 2]
    python -m studies.discovery.visual_words --toy

FOLDER holds `train/<class>/*` and `test/<class>/*`. Both runs go through the stages `pretrain` and `embed`; kNN
(k = 20) of Reprise judges the test images. Besides, it prints how many words the targets of the last batch use together
(perplexity). Printed: a row for each seed, then the mean difference with its paired interval. `--toy` runs all of it on
the embedded digits for a minute; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from studies.paired import said
from studies.views import judged, make_workspace

VIEWS: list[Any] = [{"name": "crop", "scale_min": 0.2}, "flip", {"name": "colour", "strength": 0.5}, "grey"]


def trained(method: str, options: dict[str, Any], seed: int, epochs: int, labels: str = "none", size: int = 24) -> Path:
    """Train one run by the product's own stages in the current folder, and return the folder of its embedding."""
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
        "precision": "fp32", "views": VIEWS,
    }  # fmt: skip
    kind, row = load_class("methods", method, Method, ""), RunRow(name=method, method=method, labels=labels)
    image, train = ImageParams(size=size, channels=3), TrainParams.model_validate(shared)
    pretrain(row, seed, image, train, kind.Params.model_validate(options), folder_of(method, seed), restart=True)
    embed(method, seed, EmbedParams(augmented=0), embedding(method, seed), restart=True)
    return embedding(method, seed)


def perplexity_of(run: Path) -> float:
    """Return the perplexity of the last epoch from a run's history."""
    with (run / "history.csv").open(encoding="utf-8") as file:
        return float(list(csv.DictReader(file))[-1]["perplexity"])


def main() -> None:
    """Train both for every seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--words", type=int, default=2048)
    parser.add_argument("--patches", type=int, default=2, help="small crops of an image (default of `obow`: 5)")
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    if options.toy:
        options.data, options.seeds, options.epochs, options.words = None, 2, 2, 128
    elif options.data is None:
        parser.error("--data names the folder of images, unless --toy is given")
    data, differences = options.data.resolve() if options.data else None, []
    print("| seed | kNN of `obow` | kNN of `random` | perplexity, share of the words | seconds |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="reprise-words-") as scratch:
        os.chdir(scratch)
        make_workspace(data)
        for seed in range(options.seeds):
            began = time.monotonic()
            knn = {
                method: judged(trained(method, own, seed, options.epochs))["knn"]
                for method, own in {"obow": {"words": options.words, "patches": options.patches}, "random": {}}.items()
            }
            share = perplexity_of(Path("data/runs/obow") / str(seed)) / options.words
            differences.append(knn["obow"] - knn["random"])
            cells = [f"{knn['obow']:.1f}", f"{knn['random']:.1f}", f"{100 * share:.0f} %"]
            print(f"| {seed} | {' | '.join(cells)} | {time.monotonic() - began:.0f} |", flush=True)
        os.chdir("/")
    if len(differences) > 1:
        mean, interval, _ = said(differences)
        print(f"{mean} points, {interval}")


if __name__ == "__main__":
    main()
