"""A folder as probes and pretraining leave it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from reprise.artifacts.results import write_metrics, write_predictions
from reprise.storage.atomic import write_json

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES = np.array(["cat", "dog", "owl"], dtype=object)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`make({"simclr": 0.9, ...}, seeds=[0], n=200)`: the share of right answers of each run, and params.yaml."""
    monkeypatch.chdir(tmp_path)

    def build(
        shares: dict[str, float],
        seeds: list[int] | None = None,
        n: int = 200,
        labelled: bool = True,
        grouped: bool = False,
        configs: dict[str, dict[str, Any]] | None = None,
        family: str = "knn.top1",
    ) -> Path:
        seeds = seeds if seeds is not None else [0]
        labels = CLASSES[np.random.default_rng(99).integers(0, 3, n)]
        keys = np.array([f"{i:024x}" for i in range(n)], dtype=object)
        for index, (run, share) in enumerate(shares.items()):
            for seed in seeds:
                correct = np.random.default_rng([index, seed]).random(n) < share
                predicted = np.where(correct, labels, np.where(labels == "cat", "dog", "cat"))
                folder = Path("data/probe") / run / str(seed) / "features"
                value = float(correct.mean())
                figure = {"value": value, "low": value - 0.05, "high": value + 0.05, "n": n}
                metrics: dict[str, Any] = {"knn": {}, "linear": {}}
                if labelled:
                    metrics = {"knn": {"top1": figure, "balanced_accuracy": figure}, "linear": {"top1": figure}}
                    table = {
                        "key": keys,
                        "label": labels,
                        "predicted": predicted,
                        "correct": correct,
                        "score": np.full(n, 0.5, np.float32),
                        "group": [f"g{i // 10}" if grouped else None for i in range(n)],
                    }
                    for probe in ("knn", "linear"):
                        write_predictions(folder / "quality" / f"predictions-{probe}.parquet", pa.table(table))
                write_metrics(folder / "quality" / "metrics.json", metrics)
                rank = {"value": 10.0 + index + 0.1 * seed, "low": None, "high": None, "n": 500}
                write_metrics(folder / "label_free" / "metrics.json", {"spectrum": {"rankme": rank}, "map": {}})
                config = {"run": run, "steps": 60, "images_seen": 6000, "crops_seen": 12000, "precision": "bf16"}
                config |= {"device": "cpu", "flops_per_image": 1000, **(configs or {}).get(run, {})}
                write_json(Path("data/runs") / run / str(seed) / "config.json", config)
                history = Path("data/runs") / run / str(seed) / "history.csv"
                extra = ",top1" if run == "supervised" else ""
                lines = [f'"epoch","step","loss","rankme"{extra}']
                lines += (
                    []
                    if config["steps"] == 0
                    else [f"{e},{6 * e},{5 - e},{e + 0.5}{',0.5' * bool(extra)}" for e in (1, 2)]
                )
                history.write_text("\n".join(lines) + "\n", encoding="utf-8")
        parameters = {
            "seeds": seeds,
            "runs": [{"name": run, "method": run, "labels": "none"} for run in shares],
            "mines": [],
            "features": [],
            "suites": [{"name": "quality"}, {"name": "label_free"}],
            "summary": {"confidence": 0.95, "family": family},
        }
        Path("params.yaml").write_text(json.dumps(parameters), encoding="utf-8")
        return tmp_path

    return build
