"""A small complete data/ tree in a temporary folder: real digits in the real formats, and made-up figures."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_digits

from reprise.artifacts.labels.label_sets import write_pseudo_labels
from reprise.artifacts.layout import MANIFEST, NEAR_COPIES, NOTES, QUARANTINE, SHARDS
from reprise.artifacts.manifest import NOTES_SCHEMA, QUARANTINE_SCHEMA, write_manifest, write_notes, write_quarantine
from reprise.artifacts.near_copies import NEAR_COPIES_SCHEMA, write_near_copies
from reprise.artifacts.results import write_metrics, write_predictions
from reprise.artifacts.shards import INDEX, write_index
from reprise.artifacts.tables.parquet import write_table
from reprise.media.image.thumbnail import picture_of_arrays
from reprise.storage.atomic import write_json
from stages.report.artifacts import gather
from stages.report.page import render
from stages.report.params import ReportParams
from stages.report.readers.runs import Figure, Run, SeedRun
from stages.summary.comparison import comparison
from stages.summary.gather import gather as summary_gather
from stages.summary.params import SummaryParams

IMAGES = 120
RUNS = {"random": ("random", "none"), "simclr": ("simclr", "none"), "gsimclr": ("gsimclr", "dae_kmeans")}
Build = Callable[..., Path]


def rendered(samples: int = 24, **params: Any) -> bytes:
    """The page of the artifacts below the current folder."""
    return render(gather(ReportParams(samples=samples, **params)))


class Tree:
    """Writes the artifacts of a graph below the current folder.

    Args:
        names: the ten classes' names. labelled: False leaves labels, predictions and accuracies out.
    """

    def __init__(
        self,
        names: list[str],
        labelled: bool = True,
        seeds: tuple[int, ...] = (0,),
        runs: dict[str, tuple[str, str]] | None = None,
    ) -> None:
        self.names, self.labelled, self.seeds, self.runs = names, labelled, seeds, RUNS if runs is None else runs
        digits = load_digits()
        self.png = [
            cv2.imencode(".png", (image * 15).astype(np.uint8))[1].tobytes() for image in digits.images[:IMAGES]
        ]
        self.sha = [hashlib.sha256(data).hexdigest() for data in self.png]
        self.keys = [sha[:24] for sha in self.sha]
        self.labels = [names[d] for d in digits.target[:IMAGES]]
        self.splits = ["test" if i % 4 == 0 else "val" if i % 8 == 1 else "train" for i in range(IMAGES)]

    def of(self, split: str) -> list[int]:
        """Rows of a split."""
        return [i for i in range(IMAGES) if self.splits[i] == split]

    def write(self) -> None:
        """Everything."""
        self.data()
        self.models()
        self.mined()
        for run in self.runs:
            for seed in self.seeds:
                self.trained(run, seed)
                self.probed(run, seed)
        self.summary()

    def data(self) -> None:
        """data/ingest, data/validate, data/shards."""
        rows = {
            "key": self.keys,
            "path": [f"digits/{i}.png" for i in range(IMAGES)],
            "offset": [0] * IMAGES,
            "bytes": [len(p) for p in self.png],
            "split": self.splits,
            "label": pa.array(self.labels if self.labelled else [None] * IMAGES, pa.string()),
            "width": [8] * IMAGES,
            "height": [8] * IMAGES,
            "channels": [1] * IMAGES,
            "format": ["PNG"] * IMAGES,
            "plain": [True] * IMAGES,
            "pixels": self.sha,
            "sha256": self.sha,
            "group": pa.array([None] * IMAGES, pa.string()),
        }
        write_manifest(MANIFEST, pa.table(rows))
        refused = [
            ("bad/a.jpg", "truncated", "the file ends early", None),
            ("bad/b.jpg", "truncated", "the file ends early", None),
            ("c.txt", "not_an_image", "text", None),
        ]
        write_quarantine(
            QUARANTINE,
            pa.Table.from_pylist(
                [dict(zip(QUARANTINE_SCHEMA.names, r, strict=True)) for r in refused], QUARANTINE_SCHEMA
            ),
        )
        noted = [
            (self.keys[0], "digits/0.png", "turned", "turned upright"),
            (self.keys[1], "digits/1.png", "turned", "turned upright"),
            (self.keys[1], "digits/1.png", "range", "uint16: <b>values</b>"),
        ]
        write_notes(
            NOTES, pa.Table.from_pylist([dict(zip(NOTES_SCHEMA.names, r, strict=True)) for r in noted], NOTES_SCHEMA)
        )
        self.near_copies()
        write_json(
            "data/ingest/dataset.json",
            {
                "source": "digits",
                "name": "Digits",
                "citation": "Alpaydin 1998",
                "licence": "CC BY 4.0",
                "found": IMAGES + 3,
                "kept": IMAGES,
                "quarantined": 3,
                "counts": {s: len(self.of(s)) for s in ("train", "val", "test")},
                "classes": self.names if self.labelled else [],
                "uniform": [8, 8],
                "notes": ["A note."],
                "near_copies": {"said": ["Near-copies: 3 pairs among 5 images."]},
            },
        )
        check = {
            "expectation": "expect_column_values_to_be_unique",
            "says": "every key is there once",
            "table": "images",
            "column": "key",
            "severity": "error",
            "success": True,
            "observed": {"rows": IMAGES, "unexpected": 0},
            "threshold": {},
            "examples": [],
        }
        warned = {
            "expectation": "expect_column_values_to_be_between",
            "says": "classes are of comparable size in train",
            "table": "totals",
            "column": "imbalance",
            "severity": "warning",
            "success": False,
            "observed": 7.5,
            "threshold": {"max_value": 2.0},
            "examples": [self.keys[3]],
        }
        write_json("data/validate/validation.json", [check, warned])
        buffer, rows = io.BytesIO(), []
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for i, data in enumerate(self.png):
                member = tarfile.TarInfo(f"{self.keys[i]}.png")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
                rows.append(
                    {
                        "key": self.keys[i],
                        "split": self.splits[i],
                        "shard": "all-000000.tar",
                        "offset": buffer.tell() - -(-len(data) // 512) * 512,
                        "bytes": len(data),
                        "ext": "png",
                        "width": 8,
                        "height": 8,
                        "channels": 1,
                        "sha256": self.sha[i],
                        "group": None,
                    }
                )
        SHARDS.mkdir(parents=True)
        (SHARDS / "all-000000.tar").write_bytes(buffer.getvalue())
        write_index(
            SHARDS / INDEX,
            pa.table({name: pa.array([r[name] for r in rows], kind) for name, kind in _index_types()}),
        )

    def models(self) -> None:
        """data/trained: an autoencoder that restores images at half their brightness."""
        images = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in self.png[:4]]
        for seed in self.seeds:
            folder = Path(f"data/trained/{seed}/models/dae")
            write_json(folder / "config.json", {"model": "autoencoder", "images": 75, "seed": seed})
            history = [{"epoch": 1, "loss": 0.25}, {"epoch": 2, "loss": 0.125}]
            write_json(
                folder / "metrics.json", {"history": history, "squared_error": {"train": 0.0625, "val": 0.03125}}
            )
            picture = picture_of_arrays([images, [image // 2 for image in images]], 64)
            (folder / "reconstructions.png").write_bytes(picture)

    def mined(self) -> None:
        """data/mine: an empty label set and one of seven clusters."""
        train = self.of("train")
        empty = {"miner": "none", "on": "features/pixels", "images": len(train), "labelled": 0, "clusters": 0}
        for name, clusters in (("none", [None] * len(train)), ("dae_kmeans", [i % 7 for i in range(len(train))])):
            for seed in self.seeds:
                folder = Path(f"data/mine/{name}/{seed}")
                distance = [None if c is None else 1.0 for c in clusters]
                table = {
                    "key": [self.keys[i] for i in train],
                    "cluster": pa.array(clusters, pa.int32()),
                    "distance": pa.array(distance, pa.float32()),
                    "confidence": pa.array(distance, pa.float32()),
                    "round": [0] * len(train),
                }
                write_pseudo_labels(folder / "pseudo_labels.parquet", pa.table(table))
                full = {
                    "miner": "kmeans",
                    "on": "features/dae",
                    "images": len(train),
                    "labelled": len(train),
                    "clusters": 7,
                    "size_min": 10,
                    "size_median": 10,
                    "size_max": 11,
                    "entropy": 0.99,
                    "silhouette": 0.21,
                    "nmi": 0.5 if self.labelled else None,
                    "ari": 0.4 if self.labelled else None,
                    "accuracy": None,
                    "purity": None,
                }
                write_json(folder / "quality.json", empty if name == "none" else full)
                if name != "none":
                    picture = np.random.default_rng(0).integers(0, 256, (60, 84), dtype=np.uint8)
                    cv2.imwrite(str(folder / "montage.png"), picture)

    def trained(self, run: str, seed: int) -> None:
        """data/runs/<run>/<seed>."""
        method, labels = self.runs[run]
        sampling = (
            {"clusters": 7, "largest": 11, "batches": 9, "conflicting_pairs": 14, "share_affected": 0.25}
            if labels == "dae_kmeans"
            else None
        )
        write_json(
            f"data/runs/{run}/{seed}/config.json",
            {
                "run": run,
                "method": method,
                "labels": labels,
                "seed": seed,
                "architecture": "resnet_tiny",
                "stem": "3x3",
                "input_size": 16,
                "channels": 3,
                "weights": "student",
                "num_features": 64,
                "taps": {"backbone": 64},
                "epochs": 3,
                "steps": 27,
                "images_seen": 216,
                "crops_seen": 432,
                "flops_per_image": 1310720,
                "precision": "fp32",
                "device": "cpu",
                "threads": 1,
                "sampling": sampling,
                "parameters": {
                    "train": {"epochs": 3, "batch_size": 8},
                    "method": {"temperature": 0.2} if "simclr" in run else {},
                },
            },
        )
        rows = (
            ["epoch,step,loss,learning_rate,feature_std,rankme"]
            if method == "random"
            else [
                "epoch,step,loss,learning_rate,feature_std,rankme",
                "1,9,4.0,0.1,0.5,10",
                "2,18,3.0,0.2,nan,12",
                "3,27,2.5,0.05,0.6,14",
            ]
        )
        Path(f"data/runs/{run}/{seed}/history.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")

    def probed(self, run: str, seed: int) -> None:
        """data/probe/<run>/<seed>/features/quality and label_free."""
        place = list(self.runs).index(run)
        rng = np.random.default_rng(place * 100 + seed)
        test, train = self.of("test"), self.of("train")
        features = Path(f"data/probe/{run}/{seed}/features")
        quality, free = features / "quality", features / "label_free"
        if self.labelled:
            right = [12, 12, 13][seed % 3] if place == 0 else [26, 27, 26][(seed + place) % 3]
            wrong = rng.permutation(len(test))[right:]
            true = [self.labels[i] for i in test]
            predicted = [self.names[self.names.index(t) - 1] if i in wrong else t for i, t in enumerate(true)]
            value = right / len(test)
            figure = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": len(test)}
            write_metrics(quality / "metrics.json", {"knn": {"top1": figure}, "linear": {"top1": figure}})
            table = {
                "key": [self.keys[i] for i in test],
                "label": true,
                "predicted": predicted,
                "correct": [a == b for a, b in zip(true, predicted, strict=True)],
                "score": pa.array([0.5] * len(test), pa.float32()),
                "group": pa.array([None] * len(test), pa.string()),
            }
            for probe in ("knn", "linear"):
                write_predictions(quality / f"predictions-{probe}.parquet", pa.table(table))
        else:
            write_metrics(quality / "metrics.json", {})
        write_json(quality / "protocol.json", {"knn": {"k": 20, "temperature": 0.07}})
        write_metrics(
            free / "metrics.json",
            {"spectrum": {"rankme": {"value": 12.5 + place, "low": None, "high": None, "n": len(test)}}},
        )
        looked = {"listed": "2 of 7 test images that lie at least 10 times nearer to a training image than usual"}
        protocol = {"spectrum": {"tap": "backbone"}, "map": {"layout": f"t-SNE of {run}"}, "lookalikes": looked}
        write_json(free / "protocol.json", protocol)
        xy = rng.normal(size=(len(test), 2)).astype(np.float32)
        write_table(free / "map.parquet", pa.table({"key": [self.keys[i] for i in test], "x": xy[:, 0], "y": xy[:, 1]}))
        near = [
            (self.keys[q], r + 1, self.keys[train[(q + r + place) % len(train)]], 0.9 - r / 10)
            for q in test[:5]
            for r in range(3)
        ]
        columns = zip(*near, strict=True)
        kinds = (pa.string(), pa.int32(), pa.string(), pa.float32())
        arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
        suspected = [(self.keys[test[0]], self.keys[train[0]], 0.999), (self.keys[test[1]], self.keys[train[5]], 0.99)]
        arrays_of_pairs = [
            pa.array(column, kind)
            for column, kind in zip(zip(*suspected, strict=True), (kinds[0], *kinds[2:]), strict=True)
        ]
        write_table(
            free / "lookalikes.parquet",
            pa.table(dict(zip(("key", "neighbour_key", "similarity"), arrays_of_pairs, strict=True))),
        )
        write_table(
            free / "neighbours.parquet",
            pa.table(dict(zip(("key", "rank", "neighbour_key", "similarity"), arrays, strict=True))),
        )

    def near_copies(self) -> None:
        """Three pairs: in two splits, in one split with different labels, and with one that was refused."""
        test, (first, second, third) = self.of("test")[0], self.of("train")[:3]
        pairs = [
            (self.keys[test], "x.png", "test", self.keys[first], "y.png", "train", False, "in_two_splits"),
            (self.keys[second], "a.png", "train", self.keys[third], "b.png", "train", True, "kept_together"),
            (self.keys[second], "a.png", "train", "f" * 24, "<i>.png", None, False, "one_refused"),
        ]
        names = ("key", "path", "split", "other_key", "other_path", "other_split", "labels_differ", "done")
        rows = [dict(zip(names, pair, strict=True)) | {"distance": 0.01} for pair in pairs]
        write_near_copies(NEAR_COPIES, pa.Table.from_pylist(rows, NEAR_COPIES_SCHEMA))

    def summary(self) -> None:
        """data/summary/comparison.json, as the summary stage makes it."""
        results = summary_gather(list(self.runs), list(self.seeds), ["features/quality", "features/label_free"])
        write_json("data/summary/comparison.json", comparison(results, SummaryParams()))


def _index_types() -> list[tuple[str, pa.DataType]]:
    from reprise.artifacts.shards import INDEX_SCHEMA

    return [(field.name, field.type) for field in INDEX_SCHEMA]


@pytest.fixture(scope="session")
def trees() -> dict[str, Path]:
    """Trees that were written already, by their arguments."""
    return {}


@pytest.fixture
def build(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, trees: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Build:
    """Make a tree in an empty folder, go there, and return the folder."""

    def make(
        names: list[str] | None = None,
        labelled: bool = True,
        seeds: tuple[int, ...] = (0,),
        runs: dict[str, tuple[str, str]] | None = None,
    ) -> Path:
        arguments = repr((names, labelled, seeds, runs))
        if arguments not in trees:
            trees[arguments] = tmp_path_factory.mktemp("tree")
            monkeypatch.chdir(trees[arguments])
            Path("params.yaml").write_text(json.dumps({"report": {"samples": 24}}), encoding="utf-8")
            Tree(names or [str(i) for i in range(10)], labelled, seeds, runs).write()
        shutil.copytree(trees[arguments], tmp_path, dirs_exist_ok=True)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return make


def seed_run(name: str, value: float | None, seed: int = 0, **config: object) -> SeedRun:
    figures = {} if value is None else {"knn.top1": Figure(value, value - 0.05, value + 0.05, 100)}
    return SeedRun(name, seed, {"method": name, **config}, {}, figures, {}, (), {}, None)


def one_seed(name: str, value: float | None) -> Run:
    return Run(name, (seed_run(name, value),))
