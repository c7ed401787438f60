"""`python -m stages.embed.outside.predict --run NAME --seed N --data FOLDER ...`: the classes of images from anywhere.

The nearest labelled training images vote, as in the probe `knn`, or a linear head decides. Images are prepared as
`reprise.load_backbone` prepares them, one batch after the other, so that memory does not grow with their number.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from reprise.artifacts import layout
from reprise.artifacts.embeddings import read_embeddings
from reprise.artifacts.facts.names import read_names
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.tables.spreadsheet import safe
from reprise.artifacts.weights.trained import embeddings_of
from reprise.config.errors import ImageRefused, ParameterError, ResultError, printable
from reprise.media.lookup import IMAGE
from reprise.runtime.entry import run_stage
from reprise.storage.atomic import atomic_file
from reprise.storage.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from reprise.backbones.loaded import LoadedBackbone

COLUMNS = ("path", "predicted", "confidence", "nearest", "similarity", "refused")
K, TEMPERATURE = 20, 0.07  # as the probe `knn`
PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # of a linear head; the one that val likes best is taken
_BATCH = 64  # images
_TAP = "backbone"


@dataclass(frozen=True)
class Prediction:
    """What is said of one file.

    Attributes:
        path: below the folder that was asked about.
        predicted: the class; empty where the file is refused.
        confidence: its share of the votes, or its probability; a share of votes is no calibrated probability.
        nearest: the labelled image of the project that is nearest, by its path or key.
        similarity: the cosine to it.
        refused: why the file has no prediction.
    """

    path: str
    predicted: str = ""
    confidence: float | None = None
    nearest: str = ""
    similarity: float | None = None
    refused: str = ""

    def row(self) -> list[object]:
        """Return the cells of COLUMNS."""
        shown = [None if v is None else f"{v:.4f}" for v in (self.confidence, self.similarity)]
        return [safe(self.path), safe(self.predicted), shown[0], safe(self.nearest), shown[1], safe(self.refused)]


@dataclass(frozen=True)
class Bank:
    """The labelled images of the project, embedded.

    Attributes:
        features: (n, d) float32 of train.
        labels: (n,) positions in `classes`.
        names: (n,) path or key of each.
        classes: sorted.
        held_out: features and labels of val, by which a linear head is chosen.
    """

    features: np.ndarray
    labels: np.ndarray
    names: list[str]
    classes: list[str]
    held_out: tuple[np.ndarray, np.ndarray]


def main(argv: list[str]) -> None:
    """Parse the command line, predict, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m stages.embed.outside.predict", description=__doc__)
    parser.add_argument("--run", required=True, help="a row of `runs` or `adapt`")
    parser.add_argument("--seed", required=True, type=int, help="one of `seeds`")
    parser.add_argument("--data", required=True, type=Path, help="folder of images")
    parser.add_argument("--head", default="knn", choices=("knn", "linear"))
    parser.add_argument("--out", required=True, type=Path, help="CSV file to write")
    options = parser.parse_args(argv)
    if not options.data.is_dir():
        raise ParameterError(
            "there is no such folder of images", where=options.data, found="no folder", fix="Name a folder with images."
        )
    bank = read_bank(options.run, options.seed)
    with atomic_file(options.out, "w") as file:
        told, refused = predict(
            options.data, layout.run(options.run, options.seed), bank, options.head, table_writer(file)
        )
    print(f"{options.out}: {told:,} images, {refused:,} refused, by the run {options.run} with seed {options.seed}")


def read_bank(run: str, seed: int) -> Bank:
    """Read the embeddings of labelled train and val images.

    Raises:
        ResultError: the run has not been trained and embedded, or no image has a label.
    """
    import numpy as np

    table = embeddings_of(run, seed)
    rows = {row["key"]: row for row in read_manifest(columns=["key", "label", "path"]).to_pylist()}
    keys, splits, features = read_embeddings(table, _TAP)
    labels = [rows[key]["label"] if key in rows else None for key in keys]
    classes = sorted({label for label, split in zip(labels, splits, strict=True) if label and split == "train"})
    if not classes:
        raise ResultError(
            "there is nothing to predict from: no training image has a label",
            where=layout.MANIFEST,
            found="no class",
            fix="Give images labels and run `reprise repro`; without labels, ask `reprise clusters`.",
        )
    number = {name: place for place, name in enumerate(classes)}
    known = np.array([number.get(label, -1) if label else -1 for label in labels])
    train, val = (np.flatnonzero((splits == split) & (known >= 0)) for split in ("train", "val"))
    called = read_names()
    names = [called.get(keys[place]) or _name(rows[keys[place]]) for place in train]
    return Bank(features[train], known[train], names, classes, (features[val], known[val]))


def _name(row: dict[str, str]) -> str:
    """Return the path of an image, or its key where it lies in an archive of Reprise's own."""
    return row["key"] if row["path"] == str(layout.INGEST / "images.tar") else row["path"]


def predict(folder: Path, run: Path, bank: Bank, head: str, write: Callable[[Prediction], None]) -> tuple[int, int]:
    """Predict a class for every file below a folder, in the order of their paths.

    Args:
        folder: searched with everything below it; links to other folders are not followed.
        run: the folder of the backbone.
        bank: from `read_bank`.
        head: `knn` or `linear`.
        write: takes one prediction after the other.

    Returns:
        How many files have a prediction, and how many were refused.

    Raises:
        ParameterError: the backbone is for other samples than images, or a linear head has no val images to be chosen
            by.
    """
    from reprise.backbones.loaded import load_backbone

    backbone = load_backbone(run)
    if backbone.modality != IMAGE:
        raise ParameterError(
            "predictions are made for files of images only",
            where=run,
            found=f"a backbone for samples of the kind {backbone.modality}",
            fix="Load it with reprise.load_backbone and give it arrays (docs/how-to/use-a-backbone.md).",
        )
    classify = _classifier(bank, head)
    files = list(_files(folder))
    done = refused = 0
    with Progress("predict", len(files), "images") as progress, ThreadPoolExecutor(2) as pool:
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            found = _predicted(folder, batch, backbone, bank, classify, pool)
            for prediction in found:
                write(prediction)
                refused += bool(prediction.refused)
            done += len(batch)
            progress.advance(len(batch))
    return done - refused, refused


def _files(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder):
        folders.sort()
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(at) / name for name in sorted(names) if not name.startswith("."))


Classify = Callable[["np.ndarray"], tuple["np.ndarray", "np.ndarray"]]


def _classifier(bank: Bank, head: str) -> Classify:
    from reprise.measures.linear import Problem, choose
    from reprise.measures.nearest.neighbours import classify

    if head == "knn":
        return lambda x: classify(x, bank.features, bank.labels, len(bank.classes), K, TEMPERATURE)
    features, labels = bank.held_out
    if not len(labels):
        raise ParameterError(
            "a linear head is chosen by labelled val images, and there are none",
            where="--head linear",
            found="no val image with a label",
            fix="Set source.val_fraction above 0 and run `reprise repro`, or use --head knn.",
        )
    import torch

    problem = Problem(bank.features, bank.labels, torch.float32, "cpu")
    return choose(problem, features, labels, PENALTIES).classifier.predict


def _predicted(
    folder: Path, files: list[Path], backbone: LoadedBackbone, bank: Bank, classify: Classify, pool: ThreadPoolExecutor
) -> list[Prediction]:
    import torch

    from reprise.measures.nearest.neighbours import top_k

    def prepared(path: Path) -> torch.Tensor | str:
        try:
            return backbone.prepare([path])
        except ImageRefused as error:
            return printable(str(error))

    taken = list(pool.map(prepared, files))
    names = [path.relative_to(folder).as_posix() for path in files]
    images = [x for x in taken if not isinstance(x, str)]
    if not images:
        return [Prediction(name, refused=str(why)) for name, why in zip(names, taken, strict=True)]
    with torch.inference_mode():
        features = backbone(torch.cat(images)).numpy()
    classes, confidence = classify(features)
    similarity, nearest = top_k(features, bank.features, 1)
    rows = iter(zip(classes, confidence, similarity[:, 0], nearest[:, 0], strict=True))
    found = []
    for name, one in zip(names, taken, strict=True):
        if isinstance(one, str):
            found.append(Prediction(name, refused=one))
            continue
        place, sure, like, row = next(rows)
        found.append(Prediction(name, bank.classes[int(place)], float(sure), bank.names[int(row)], float(like)))
    return found


def table_writer(file: IO[str]) -> Callable[[Prediction], None]:
    """Write the header of a table, and return what writes a row."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    return lambda prediction: writer.writerow(prediction.row())


if __name__ == "__main__":
    run_stage(main)
