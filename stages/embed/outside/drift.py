"""`python -m stages.embed.outside.drift --before MANIFEST --out FILE`: do new images differ from the others?

Images of the manifest as it is are compared with each other: those that an earlier manifest does not have against those
that it has. Images of the test split are left out, so nothing is learned from them. A test counts where chance alone is
ruled out at the section's level, after Holm over all tests, and where the difference is as large as its threshold; of
many images the first alone would call everything different.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reprise.artifacts.manifest import IMAGE, read_manifest
from reprise.config.drift import DriftParams, drift_params
from reprise.config.errors import BackboneError
from reprise.config.params import read_yaml
from reprise.measures import two_sample
from reprise.measures.statistics import holm
from reprise.measures.two_sample import Difference, TwoSets
from reprise.runtime.entry import run_stage
from reprise.storage.atomic import atomic_file
from reprise.storage.progress import Progress

_SIDE = 16  # of the pictures from which light is measured
_BATCH = 64  # images
_COMPARED = ("train", "val")
TESTS = 8  # at most: class shares, two of sizes, three of light, two of embeddings


@dataclass(frozen=True)
class Finding:
    """What one test says.

    Attributes:
        name: of what is compared.
        unit: of the size, in words.
        size: of the difference.
        threshold: of the size.
        p: adjusted by Holm.
        drifted: whether the test counts.
    """

    name: str
    unit: str
    size: float
    threshold: float
    p: float
    drifted: bool


def main(argv: list[str]) -> None:
    """Compare, and write the result as JSON."""
    parser = argparse.ArgumentParser(prog="python -m stages.embed.outside.drift", description=__doc__)
    parser.add_argument("--before", required=True, type=Path, help="manifest of the earlier images")
    parser.add_argument("--backbone", type=Path, help="folder of a run whose embeddings are compared as well")
    parser.add_argument("--out", required=True, type=Path, help="JSON file to write")
    options = parser.parse_args(argv)
    params = drift_params(read_yaml())
    columns = ["key", "split", "label", "group", "width", "height"]
    result = compare(read_manifest(options.before, columns=columns), read_manifest(), params, options.backbone)
    with atomic_file(options.out, "w") as file:
        json.dump(result, file, indent=1)


def compare(before: pa.Table, now: pa.Table, params: DriftParams, backbone: Path | None = None) -> dict[str, Any]:
    """Compare the images of `now` that `before` has not with those that it has.

    Returns:
        `new`, `kept` and `gone` images, `relabelled` ones, the groups of new images, `findings` (of `Finding`), and a
        `note` where nothing was tested.
    """
    keys, earlier = (
        np.array(now["key"].to_pylist()),
        dict(zip(*(before[c].to_pylist() for c in ("key", "label")), strict=True)),
    )
    is_new = np.array([key not in earlier for key in keys], dtype=bool)
    labels = now["label"].to_pylist()
    counts: dict[str, Any] = {
        "new": int(is_new.sum()),
        "kept": int((~is_new).sum()),
        "gone": len(set(earlier) - set(keys.tolist())),
        "relabelled": sum(k in earlier and earlier[k] != label for k, label in zip(keys.tolist(), labels, strict=True)),
        "findings": [],
    }
    chosen = _sample(keys, is_new, np.array(now["split"].to_pylist()), params.most)
    new, old = int(is_new[chosen].sum()), int((~is_new[chosen]).sum())
    if min(new, old) < params.fewest:
        few = f"{new} new images" if new <= old else f"{old} images that were there before"
        counts["note"] = f"only {few} are outside of the test split, and {params.fewest} are needed to judge"
        return counts
    groups = [now["group"][int(row)].as_py() for row in chosen]
    divisions = two_sample.divisions_for(params.level, TESTS)
    sets = TwoSets(is_new[chosen], two_sample.units_of(is_new[chosen], groups), divisions)
    tested = list(_tests(now, chosen, sets, params, backbone))
    adjusted = holm([difference.p for *_, difference in tested])
    findings = [
        Finding(name, unit, difference.size, least, p, p <= params.level and difference.size >= least)
        for (name, unit, least, difference), p in zip(tested, adjusted, strict=True)
    ]
    return {**counts, "findings": [asdict(finding) for finding in findings]}


def _sample(keys: np.ndarray, is_new: np.ndarray, splits: np.ndarray, most: int) -> np.ndarray:
    """Draw rows of each side: ascending, at most `most` of each. Keys are hashes, so the first ones are a fair draw."""
    usable = np.flatnonzero(np.isin(splits, _COMPARED))
    usable = usable[np.argsort(keys[usable], kind="stable")]
    sides = (usable[is_new[usable]], usable[~is_new[usable]])
    return np.sort(np.concatenate([side[:most] for side in sides]))


Tested = tuple[str, str, float, Difference]  # name, unit of the size, threshold, result


def _tests(
    now: pa.Table, rows: np.ndarray, sets: TwoSets, params: DriftParams, backbone: Path | None
) -> Iterator[Tested]:
    labels = [now["label"][int(row)].as_py() for row in rows]
    classes = sorted({label for label in labels if label is not None})
    if classes:
        number = {None: len(classes), **{name: place for place, name in enumerate(classes)}}
        shares = two_sample.shares(sets, np.array([number[label] for label in labels]))
        yield "class shares", "total variation distance", params.classes, shares
    width, height = (now[name].to_numpy()[rows].astype(float) for name in ("width", "height"))
    distance = "largest distance of the distributions"
    for name, values in (("area", width * height), ("aspect", width / height)):
        yield name, distance, params.sizes, two_sample.distributions(sets, values)
    if "modality" in now.column_names:
        return  # light and embeddings are those of images
    keys = [now["key"][int(row)].as_py() for row in rows]
    light, features = _looked_at(keys, backbone)
    for name, values in light.items():
        yield name, distance, params.light, two_sample.distributions(sets, values)
    if features is not None:
        found = two_sample.mean_discrepancy(sets, features)
        yield "embeddings", "squared maximum mean discrepancy", params.discrepancy, found
        found = two_sample.classified(sets, features)
        yield "embeddings, classified", "area under the curve", params.classified, found


def _looked_at(keys: list[str], folder: Path | None) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Read the images: their brightness, contrast and colour, and their features under a backbone, if one is named."""
    from reprise.media.image.decode import decode
    from reprise.media.image.transform import resize_to_square

    embed = embedder(folder) if folder else None
    light, features = [], []
    for part, encoded in read_encoded(keys, "drift"):
        for key, data in zip(part, encoded, strict=True):
            light.append(_light_of(resize_to_square(decode(data, key, None), _SIDE)))
        if embed:
            features.append(embed(encoded))
    names = ("brightness", "contrast", "colour")
    return dict(zip(names, np.array(light).T, strict=True)), np.concatenate(features) if features else None


def read_encoded(keys: Sequence[str], label: str) -> Iterator[tuple[Sequence[str], list[bytes]]]:
    """Read images of the shards, some at a time: their keys and their encoded bytes.

    Args:
        keys: of the images, in the order in which they are wanted.
        label: of the progress line.

    Raises:
        ShardError: the shards lack one of them.
    """
    from reprise.artifacts.shards import Shards

    shards = Shards.open()
    rows = shards.rows_of(np.array(keys, object)).tolist()
    with Progress(label, len(keys), "images") as progress:
        for start in range(0, len(keys), _BATCH):
            part = keys[start : start + _BATCH]
            yield part, [shards.read(row) for row in rows[start : start + _BATCH]]
            progress.advance(len(part))
    shards.close()


def _light_of(pixels: np.ndarray) -> tuple[float, float, float]:
    """Return mean, standard deviation, and mean distance of the bands of (S, S, C) uint8."""
    values = pixels.astype(np.float64)
    grey = values.mean(axis=2)
    return float(grey.mean()), float(grey.std()), float((values.max(axis=2) - values.min(axis=2)).mean())


def embedder(folder: Path) -> Callable[[list[bytes]], np.ndarray]:
    """Load the backbone of a run's folder, and return what turns encoded images into features, (n, d) float32.

    Raises:
        BackboneError: the folder is no run, or its backbone is not for images.
    """
    import torch

    from reprise.backbones.loaded import load_backbone

    backbone = load_backbone(folder)
    if backbone.modality != IMAGE:
        raise BackboneError(
            "the backbone is not for images",
            where=folder,
            found=f"a backbone for samples of the kind {backbone.modality}",
            fix="Name a run that was trained on images.",
        )

    def embed(encoded: list[bytes]) -> np.ndarray:
        with torch.inference_mode():
            features: np.ndarray = backbone(backbone.prepare(encoded)).numpy()
        return features

    return embed


if __name__ == "__main__":
    run_stage(main)
