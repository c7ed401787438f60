"""TensorBoard: an event file a run, below a folder; `tensorboard --logdir FOLDER` shows them. Extra `tensorboard`."""

from __future__ import annotations

from pathlib import Path

from pipeline.exports.trackers.finished import Finished
from reprise.storage.atomic import atomic_directory


class TensorBoard:
    """Curves by epoch, figures at the last epoch, and parameters for the tab HPARAMS.

    Args:
        to: folder.
    """

    def __init__(self, to: str = ".reprise/tensorboard") -> None:
        from tensorboard.summary.writer import event_file_writer  # noqa: F401 - an extra: missing, it is said at once

        self.folder = Path(to)

    def holds(self, key: str) -> bool:
        """Look for a folder that ends with the key."""
        return any(self.folder.glob(f"*/*-{key}"))

    def write(self, finished: Finished) -> None:
        """Write all events of a run into a folder of its own, whole or not at all."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        last = max((epoch for curve in finished.curves.values() for epoch, _ in curve), default=0)
        points = [(name, epoch, value) for name, curve in finished.curves.items() for epoch, value in curve]
        points += [(name, last, figure.value) for name, figure in finished.figures.items()]
        with atomic_directory(self.folder / finished.run / f"{finished.seed}-{finished.key}") as folder:
            writer = EventFileWriter(str(folder))
            parameters = {**finished.parameters, **finished.origin}
            writer.add_event(Event(step=0, summary=hparams_pb(parameters, trial_id=finished.key)))
            for name, epoch, value in points:
                value_of = Summary.Value(tag=name.replace(".", "/", 1), simple_value=value)
                writer.add_event(Event(step=epoch, summary=Summary(value=[value_of])))
            writer.close()

    def place(self) -> str:
        """Say how to look at the runs."""
        return f"{self.folder}: `tensorboard --logdir {self.folder}` shows them"
