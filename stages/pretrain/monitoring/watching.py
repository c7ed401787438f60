"""The watches of one run: when they look, what they saw, and how that survives an interruption.

What was seen lies beside the checkpoints, in a file of its own, so that these have the same bytes with and without
watches. After an interruption what was seen later than the checkpoint is dropped, and seen again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import torch

from reprise.config.errors import CheckpointError, RepriseError, TrainingError
from reprise.runtime.device import Compute
from reprise.storage.atomic import atomic_file, write_json
from reprise.training.watch import Look, WatchParams, load_watch, unchanged

if TYPE_CHECKING:
    from stages.pretrain.epochs import PretrainingEpochs
    from stages.pretrain.method import Method

FILE = "watches.csv"  # in the run's folder
SEEN = "watches.json"  # in the work folder
SCHEMA = pa.schema(
    [
        ("epoch", pa.int64()),
        ("step", pa.int64()),
        ("watch", pa.string()),
        ("figure", pa.string()),
        ("value", pa.float64()),  # empty where it is not finite
    ]
)
Seen = tuple[int, int, str, str, float | None]  # a row of the file


class Watching:
    """Lets the watches of a run look.

    Args:
        watches: parameters of each, of at least one.
        method: in training.
        compute: device and precision.
        seed: of the run.
        epochs: of the training; every look sees the first batch of the first one.
        work: the folder of the checkpoints.
    """

    def __init__(
        self,
        watches: Sequence[WatchParams],
        method: Method,
        compute: Compute,
        seed: int,
        epochs: PretrainingEpochs,
        work: Path,
    ) -> None:
        self.watches = [load_watch(params) for params in watches]
        self.method, self.compute, self.seed, self.epochs = method, compute, seed, epochs
        self.file = work / SEEN
        self.epoch = 0
        self.seen: list[Seen] = []

    def start(self, step: int) -> None:
        """Begin, or go on after so many steps with what was seen until then."""
        self.batch = self.epochs.epoch(0).make(0)
        self.epoch = step // self.epochs.batches
        if step == 0:
            self._look()
        else:
            self.seen = [row for row in self._read() if row[1] <= step]

    def end_epoch(self) -> None:
        """Let the watches look that are due at the end of this epoch."""
        self.epoch += 1
        self._look()

    def _look(self) -> None:
        due = [w for w in self.watches if self.epoch % w.params.every == 0 or self.epoch == self.epochs.count]
        for watch in due:
            name = watch.params.name
            look = Look(self.method, self.method.step, self.batch, self.compute, self.seed, self.epoch)
            try:
                with unchanged(self.method), torch.set_grad_enabled(True):
                    found = {figure: float(value) for figure, value in watch.look(look).items()}
            except RepriseError:
                raise
            except Exception as error:
                raise TrainingError(
                    f"the watch '{name}' failed",
                    where=f"train.watches.{name}, epoch {self.epoch}",
                    found=f"{type(error).__name__}: {error}",
                    fix=f"Correct its file, or remove {name} from the watches. Checkpoints are in {self.file.parent}.",
                ) from error
            step = self.epoch * self.epochs.batches
            for figure, value in found.items():
                self.seen.append((self.epoch, step, name, figure, value if math.isfinite(value) else None))
        if due:
            write_json(self.file, self.seen)

    def _read(self) -> list[Seen]:
        try:
            rows: list[list[Any]] = json.loads(self.file.read_text(encoding="utf-8"))
            return [(int(row[0]), int(row[1]), str(row[2]), str(row[3]), row[4]) for row in rows]
        except (OSError, ValueError, TypeError, IndexError, KeyError) as error:
            raise CheckpointError(
                "what the watches saw before the interruption cannot be read",
                where=self.file,
                found=error,
                fix="Run the stage with --restart, which begins from the start.",
            ) from error


def write_watches(path: Path, seen: Sequence[Seen]) -> None:
    """Write a table with a row for each figure of each look."""
    columns = list(zip(*seen, strict=True)) or [()] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    with atomic_file(path) as file:
        pyarrow.csv.write_csv(pa.Table.from_arrays(arrays, schema=SCHEMA), file)
