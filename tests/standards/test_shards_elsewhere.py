"""The shards in plain webdataset and in Hugging Face datasets: the same samples, labels and facts as ours."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from reprise.artifacts.facts.sides import Sides
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.shards import Shards
from reprise.media.image.decode import decode

SPLITS = ("train", "val", "test")
MEMBERS = {"png", "json", "mask.png", "boxes.json", "pose.json", "caption.txt"}
EXTENSIONS = MEMBERS | {"__key__", "__url__", "__local_path__"}


def tars(split: str) -> list[str]:
    return sorted(str(path) for path in Path("data/shards").glob(f"{split}-*.tar"))


def ours() -> dict[str, dict[str, Any]]:
    shards, sides = Shards.open(), Sides()
    rows = {}
    for i, key in enumerate(shards.keys):
        data = shards.read(i)
        rows[str(key)] = {
            "split": shards.splits[i],
            "data": data,
            "pixels": decode(data, "x", 3),
            **{fact: sides.read(str(key), fact) for fact in ("mask", "boxes", "pose")},
        }
    return rows


def given_captions() -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for row in pq.read_table("data/facts/all/captions.parquet").sort_by("number").to_pylist():
        texts.setdefault(row["key"], []).append(row["text"])
    return texts


def with_webdataset(split: str) -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import webdataset

        return list(webdataset.WebDataset(tars(split), shardshuffle=False, empty_check=False))


@pytest.mark.usefixtures("project")
def test_webdataset_gives_the_same_bytes_and_facts() -> None:
    expected = ours()
    captions = given_captions()
    assert len(tars("train")) > 1  # samples of several tars follow each other
    found = {split: with_webdataset(split) for split in SPLITS}
    assert sorted(s["__key__"] for samples in found.values() for s in samples) == sorted(expected)
    for split, samples in found.items():
        for sample in samples:
            own = expected[sample["__key__"]]
            assert MEMBERS <= set(sample) <= EXTENSIONS
            assert sample["caption.txt"].decode().splitlines() == captions[sample["__key__"]]
            assert (own["split"], own["data"]) == (split, sample["png"])
            assert [own[f] for f in ("mask", "boxes", "pose")] == [
                sample[e] for e in ("mask.png", "boxes.json", "pose.json")
            ]
            described = json.loads(sample["json"])
            assert (described["key"], described["split"]) == (sample["__key__"], split)
            assert "label" not in described


@pytest.mark.usefixtures("project")
def test_datasets_gives_the_same_images_labels_and_facts(tmp_path: Path) -> None:
    from datasets import load_dataset

    expected = ours()
    loaded = load_dataset("webdataset", data_files={s: tars(s) for s in SPLITS}, cache_dir=str(tmp_path))
    assert {split: loaded[split].num_rows for split in SPLITS} == {s: len(with_webdataset(s)) for s in SPLITS}
    labels = {row["key"]: row["label"] for row in read_manifest().to_pylist()}
    seen, captions = [], given_captions()
    for split in SPLITS:
        for sample in loaded[split]:
            key = sample["__key__"]
            own = expected[key]
            assert np.array_equal(np.asarray(sample["png"].convert("RGB")), own["pixels"])
            assert np.array_equal(np.asarray(sample["mask.png"]), np.asarray(Image.open(io.BytesIO(own["mask"]))))
            assert sample["boxes.json"] == json.loads(own["boxes"])
            assert sample["pose.json"] == json.loads(own["pose"])
            assert sample["json"]["split"] == split
            assert sample["caption.txt"].splitlines() == captions[key]
            seen.append((key, labels[key]))
    assert sorted(seen) == sorted(labels.items())
