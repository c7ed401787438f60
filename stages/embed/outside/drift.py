"""`python -m stages.embed.outside.drift --before MANIFEST --out FILE`: do new images differ from the others?

Images of the manifest as it is are compared with each other: those that an earlier manifest does not have against those
that it has. Where almost none of the earlier images is left (a folder was swapped, or each file was written anew), the
new ones are compared with the earlier ones as that manifest and its shards (`--earlier`) have them. Images of the test
split are left out, so nothing is learned from them. A test counts where chance alone is ruled out at the section's
level, after Holm over all tests, and where the difference is as large as its threshold; of many images the first alone
would call everything different.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reprise.artifacts import layout
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
_COLUMNS = ["key", "split", "label", "group", "width", "height"]
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
    parser.add_argument("--earlier", type=Path, help="shards of the earlier images, for where none of them is left")
    parser.add_argument("--backbone", type=Path, help="folder of a run whose embeddings are compared as well")
    parser.add_argument("--out", required=True, type=Path, help="JSON file to write")
    options = parser.parse_args(argv)
    params = drift_params(read_yaml())
    before = read_manifest(options.before, columns=_COLUMNS)
    result = compare(before, read_manifest(), params, options.backbone, options.earlier)
    with atomic_file(options.out, "w") as file:
        json.dump(result, file, indent=1)


def compare(
    before: pa.Table,
    now: pa.Table,
    params: DriftParams,
    backbone: Path | None = None,
    earlier: Path | None = None,
) -> dict[str, Any]:
    """Compare the images of `now` that `before` has not with those that it has, or with all of `before`.

    Args:
        before: manifest of the earlier images.
        now: the manifest as it is.
        params: what counts as a difference.
        backbone: folder of a run whose embeddings are compared as well.
        earlier: shards of the earlier images; they are read only where these were replaced.

    Returns:
        `new`, `kept` and `gone` images, `relabelled` ones, `findings` (of `Finding`), whether the earlier images were
        `replaced`: too few are left, and enough are gone; and a `note` where something was not tested.
    """
    keys, known = now["key"].to_pylist(), dict(zip(*(before[c].to_pylist() for c in ("key", "label")), strict=True))
    is_new = np.array([key not in known for key in keys], dtype=bool)
    present = set(keys)
    gone = np.array([key not in present for key in before["key"].to_pylist()], dtype=bool)
    new, kept, lost = _usable(now, is_new), _usable(now, ~is_new), _usable(before, gone)
    replaced = new > 0 and kept < params.fewest <= lost
    found: dict[str, Any] = {
        "new": int(is_new.sum()),
        "kept": int((~is_new).sum()),
        "gone": int(gone.sum()),
        "relabelled": sum(
            k in known and known[k] != label for k, label in zip(keys, now["label"].to_pylist(), strict=True)
        ),
        "replaced": replaced,
        "findings": [],
        "note": "",
    }
    if min(new, params.fewest if replaced else kept) < params.fewest:
        count, which = (new, "new images") if replaced or new <= kept else (kept, "images that were there before")
        few = f"only {count} {which} are" if count else f"no {which} are"
        return {**found, "note": f"{few} outside of the test split, and {params.fewest} are needed to judge"}
    images = "modality" not in now.column_names  # light and embeddings are those of images
    if replaced:
        if images and earlier is None:
            found["note"] = "light and embeddings were not compared, because the earlier images are not at hand"
            images = False
        now = pa.concat_tables([now.select(_COLUMNS).filter(pa.array(is_new)), before.select(_COLUMNS)])
        is_new = np.arange(len(now)) < is_new.sum()
    folders = (layout.SHARDS, earlier if replaced and earlier else layout.SHARDS)
    look = partial(_looked_at, folders=folders, backbone=backbone) if images else None
    return {**found, "findings": [asdict(finding) for finding in _findings(now, is_new, params, look)]}


def _usable(table: pa.Table, of: np.ndarray) -> int:
    """Count the images of a manifest that are compared."""
    return int((of & np.isin(np.array(table["split"].to_pylist()), _COMPARED)).sum())


def _findings(table: pa.Table, is_new: np.ndarray, params: DriftParams, look: Look | None) -> list[Finding]:
    """Test rows of a manifest, and adjust for the number of tests."""
    chosen = _sample(np.array(table["key"].to_pylist()), is_new, np.array(table["split"].to_pylist()), params.most)
    groups = [table["group"][int(row)].as_py() for row in chosen]
    divisions = two_sample.divisions_for(params.level, TESTS)
    sets = TwoSets(is_new[chosen], two_sample.units_of(is_new[chosen], groups), divisions)
    tested = list(_tests(table, chosen, sets, params, look))
    adjusted = holm([difference.p for *_, difference in tested])
    return [
        Finding(name, unit, difference.size, least, p, p <= params.level and difference.size >= least)
        for (name, unit, least, difference), p in zip(tested, adjusted, strict=True)
    ]


def _sample(keys: np.ndarray, is_new: np.ndarray, splits: np.ndarray, most: int) -> np.ndarray:
    """Draw rows of each side: ascending, at most `most` of each. Keys are hashes, so the first ones are a fair draw."""
    usable = np.flatnonzero(np.isin(splits, _COMPARED))
    usable = usable[np.argsort(keys[usable], kind="stable")]
    sides = (usable[is_new[usable]], usable[~is_new[usable]])
    return np.sort(np.concatenate([side[:most] for side in sides]))


Look = Callable[[list[str], np.ndarray], tuple[dict[str, np.ndarray], np.ndarray | None]]
Tested = tuple[str, str, float, Difference]  # name, unit of the size, threshold, result


def _tests(now: pa.Table, rows: np.ndarray, sets: TwoSets, params: DriftParams, look: Look | None) -> Iterator[Tested]:
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
    if look is None:
        return
    light, features = look([now["key"][int(row)].as_py() for row in rows], sets.second)
    for name, values in light.items():
        yield name, distance, params.light, two_sample.distributions(sets, values)
    if features is not None:
        found = two_sample.mean_discrepancy(sets, features)
        yield "embeddings", "squared maximum mean discrepancy", params.discrepancy, found
        found = two_sample.classified(sets, features)
        yield "embeddings, classified", "area under the curve", params.classified, found


def _looked_at(
    keys: list[str], is_new: np.ndarray, folders: tuple[Path, Path], backbone: Path | None
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Read the images: their brightness, contrast and colour, and their features under a backbone, if one is named.

    Args:
        keys: of the images.
        is_new: (n,) of which side each one is.
        folders: shards of the new images, and of the others.
        backbone: folder of a run, or None.
    """
    from reprise.media.image.decode import decode
    from reprise.media.image.transform import resize_to_square

    embed = embedder(backbone) if backbone else None
    sides = [np.flatnonzero(is_new), np.flatnonzero(~is_new)]
    light, features = [], []
    for rows, folder in zip(sides, folders, strict=True):
        for part, encoded in read_encoded([keys[row] for row in rows], "drift", folder):
            for key, data in zip(part, encoded, strict=True):
                light.append(_light_of(resize_to_square(decode(data, key, None), _SIDE)))
            if embed:
                features.append(embed(encoded))
    back = np.argsort(np.concatenate(sides))  # into the order of the keys
    names = ("brightness", "contrast", "colour")
    by_name = dict(zip(names, np.array(light)[back].T, strict=True))
    return by_name, np.concatenate(features)[back] if features else None


def read_encoded(
    keys: Sequence[str], label: str, folder: Path = layout.SHARDS
) -> Iterator[tuple[Sequence[str], list[bytes]]]:
    """Read images of the shards, some at a time: their keys and their encoded bytes.

    Args:
        keys: of the images, in the order in which they are wanted.
        label: of the progress line.
        folder: of the shards.

    Raises:
        ShardError: the shards lack one of them.
    """
    from reprise.artifacts.shards import Shards

    shards = Shards.open(folder)
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
