"""`python -m stages.embed.outside.challenge --champion FOLDER --run NAME --seed N --out FILE`: two backbones on val.

An earlier backbone (the champion) and that of a run (the challenger) answer the same val images from the same labelled
training images, by the nearest neighbours of the probe `knn`. So they differ in nothing but the backbone, also where
images have come since the champion was trained. Val images that the champion was trained on are left out; the test
split is not read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow.parquet import read_schema

from reprise.artifacts import layout
from reprise.artifacts.embeddings import read_embeddings
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.weights.trained import embeddings_of
from reprise.measures.nearest.neighbours import classify
from reprise.runtime.entry import run_stage
from reprise.storage.atomic import atomic_file
from stages.embed.outside.drift import embedder, read_encoded
from stages.embed.outside.predict import TEMPERATURE, K

_TAP = "backbone"


def main(argv: list[str]) -> None:
    """Ask both, and write whether each answer is right as JSON."""
    parser = argparse.ArgumentParser(prog="python -m stages.embed.outside.challenge", description=__doc__)
    parser.add_argument("--champion", required=True, type=Path, help="folder of the earlier run")
    parser.add_argument("--before", required=True, type=Path, help="manifest of the images that it was trained on")
    parser.add_argument("--run", required=True, help="the challenger, a row of `runs` or `adapt`")
    parser.add_argument("--seed", required=True, type=int, help="one of `seeds`")
    parser.add_argument("--out", required=True, type=Path, help="JSON file to write")
    options = parser.parse_args(argv)
    earlier = read_manifest(options.before, columns=["key", "split"])
    trained_on = {row["key"] for row in earlier.to_pylist() if row["split"] == "train"}
    answers = ask_both(options.champion, options.run, options.seed, trained_on)
    with atomic_file(options.out, "w") as file:
        json.dump(answers, file)


def ask_both(champion: Path, run: str, seed: int, trained_on: set[str]) -> dict[str, Any]:
    """Let both backbones answer.

    Args:
        champion: folder of the earlier run.
        run, seed: the challenger.
        trained_on: keys of the images that the champion was trained on.

    Returns:
        `champion` and `challenger`, whether the answer to each val image is right; `groups` of these images, or null;
        how many val images were `left_out`; and `unknown`, why nobody can tell which is better, or an empty text. There
        are no answers then.

    Raises:
        ResultError: the challenger is not embedded.
    """
    if "modality" in read_schema(layout.MANIFEST).names:  # images state none
        return _unknown("backbones for volumes have no common comparison yet")
    keys, splits, features = read_embeddings(embeddings_of(run, seed), _TAP)
    rows = {row["key"]: row for row in read_manifest(columns=["key", "label", "group"]).to_pylist()}
    labels = [rows[key]["label"] if key in rows else None for key in keys]
    classes = sorted({label for label, split in zip(labels, splits, strict=True) if label and split == "train"})
    number = {name: place for place, name in enumerate(classes)}
    known = np.array([number.get(label, -1) if label else -2 for label in labels])  # -1: a class that train lacks
    train, val = np.flatnonzero((splits == "train") & (known >= 0)), np.flatnonzero((splits == "val") & (known > -2))
    fair = np.array([keys[place] not in trained_on for place in val], dtype=bool)
    asked = val[fair]
    if not len(train) or not len(asked):
        unseen = f"{len(asked):,} of val that the champion has not seen"
        return _unknown(f"there are {len(train):,} labelled images of train, and {unseen}", int((~fair).sum()))
    earlier = _embedded(champion, keys[np.concatenate([train, asked])])
    pairs = {
        "champion": (earlier[len(train) :], earlier[: len(train)]),
        "challenger": (features[asked], features[train]),
    }
    right = {
        name: (classify(x, bank, known[train], len(classes), K, TEMPERATURE)[0] == known[asked]).tolist()
        for name, (x, bank) in pairs.items()
    }
    groups = [rows[keys[place]]["group"] for place in asked]
    return {**right, "groups": groups if any(groups) else None, "left_out": int((~fair).sum()), "unknown": ""}


def _unknown(why: str, left_out: int = 0) -> dict[str, Any]:
    """Answer that nobody can tell which backbone is better. That is a judgement and no error: it stays true."""
    return {"champion": [], "challenger": [], "groups": None, "left_out": left_out, "unknown": why}


def _embedded(folder: Path, keys: np.ndarray) -> np.ndarray:
    """Embed images of the shards: (n,) keys -> (n, d)."""
    embed = embedder(folder)
    return np.concatenate([embed(encoded) for _, encoded in read_encoded(keys.tolist(), "challenge")])


if __name__ == "__main__":
    run_stage(main)
