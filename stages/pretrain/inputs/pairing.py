"""The pairs of a run whose method trains on pairs: read from its label set, and what is refused and noted of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reprise.artifacts.labels.pairs import FILE, read_pairs_of, rows_of
from reprise.artifacts.tables.columns import Keys
from reprise.config.errors import TrainingError
from reprise.config.tables import AnyRun
from reprise.reading.partners import Partners, partners_of
from reprise.training.params import TrainParams


def read_partners(labels: Path, keys: Keys, kept: np.ndarray, row: AnyRun) -> Partners:
    """Read the pairs that belong to a label set, between images that the run is trained on.

    Args:
        labels: its file of pseudo-labels.
        keys: of all training images.
        kept: (n,) int64, positions among them of those that the run is trained on.
        row: of the run, for messages.

    Raises:
        TrainingError: the label set holds no pairs, or none with a weight between these images.
        PseudoLabelError: the pairs are damaged, of other images or of another label set.
    """
    table = read_pairs_of(labels)
    if table is None:
        raise without_pairs(row, "holds clusters and no pairs" if row.labels != "none" else "is empty")
    pairs, weights = rows_of(table, keys, labels.with_name(FILE))
    position = np.full(len(keys), -1)
    position[kept] = np.arange(len(kept))
    among = (position[pairs] >= 0).all(axis=1)
    found = partners_of(position[pairs[among]], weights[among], len(kept))
    if not found.shown:
        raise without_pairs(row, f"has {table.num_rows} pairs, none of them with a weight between images of this run")
    return found


def without_pairs(row: AnyRun, found: str) -> TrainingError:
    """Make the error of a run whose method needs pairs and whose label set has none.

    Args:
        row: of the run.
        found: what the label set is instead, a verb and its object.
    """
    return TrainingError(
        f"method '{row.method}' needs a label set of pairs",
        where=f"runs: {row.name}: labels",
        found=f"'{row.labels}', which {found}",
        fix="Name a row of `mines` whose miner finds pairs: `frame_matching`, `transitive_pairs`, "
        "`mutual_neighbours` or `views`; `reprise params NAME` describes it.",
    )


def refuse_parted_pairs(row: AnyRun, train: TrainParams) -> None:
    """Refuse batches that would part an image from its partner.

    Args:
        row: of the run, for the message.
        train: the run's budget.

    Raises:
        TrainingError: the size of a batch is odd, batches are cut into micro-batches, or epochs into windows.
    """
    if train.window_bytes is not None:
        raise TrainingError(
            f"batches of method '{row.method}' hold images and their partners, which windows of tars would part",
            where=f"train.window_bytes, methods.{row.name}",
            found=train.window_bytes,
            fix="Set train.window_bytes to null; shards of a store then need room for all of them "
            "(cache.far.max_bytes).",
        )
    size = train.batch_size
    if size % 2:
        raise TrainingError(
            f"batches of method '{row.method}' hold images and their partners, so their size is even",
            where=f"train.batch_size, methods.{row.name}",
            found=size,
            fix=f"Set train.batch_size, or the run's own batch_size, to {size - 1}, for example.",
        )
    if train.accumulate > 1:
        raise TrainingError(
            f"batches of method '{row.method}' hold images and their partners, which micro-batches would part",
            where=f"train.accumulate, methods.{row.name}",
            found=train.accumulate,
            fix="Set accumulate to 1 for this run; train.chunk_size saves memory and keeps pairs whole.",
        )


def notes_on_pairs(partners: Partners | None) -> list[str]:
    """Say how many images an epoch shows, and how many are left out because they have no partner."""
    if partners is None:
        return []
    anchors, left_out = len(partners.anchors), partners.images - len(partners.anchors)
    sentence = f"an epoch shows {anchors} images, each beside one of its partners"
    if left_out:
        sentence += f"; {left_out} of {partners.images} images have no partner and are not trained on"
    return [f"{sentence}."]
