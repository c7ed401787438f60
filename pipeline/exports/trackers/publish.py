"""Publish finished runs to a tracker; those that it has already are passed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.compare.freshness import refuse_old_figures
from pipeline.exports.trackers.finished import Finished, Tracker, finished_runs
from pipeline.exports.trackers.mlflow import MLflow
from pipeline.exports.trackers.tensorboard import TensorBoard
from pipeline.exports.trackers.wandb import WandB
from reprise.config.errors import ParameterError

TRACKERS: dict[str, Callable[..., Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}


class Published(NamedTuple):
    """What was done.

    Attributes:
        written: names of the runs that were written.
        there: of those that the tracker had already.
        left_out: of those whose figures are not those of their present parameters, data and code.
        place: where the runs are.
    """

    written: list[str]
    there: list[str]
    left_out: list[str]
    place: str


def publish(name: str, to: str | None = None, only: Sequence[str] = (), root: Path = Path()) -> Published:
    """Write all finished runs of the folder.

    The weights that a run has now and the last summary may be of two trainings, and a tracker never forgets; so runs
    whose figures are old are left out.

    Args:
        name: a key of TRACKERS.
        to: where; None is the tracker's own default.
        only: names of runs; none means all.
        root: the project folder.

    Raises:
        ParameterError: the tracker's package is not installed, or it cannot be reached.
        ResultError: there are no results; or those of the whole folder, or of a run of `only`, are old.
        CommandFailed: a parameter is wrong, or the source cannot be read; the process has explained it.
        GraphError: DVC cannot report what changed.
    """
    read = finished_runs(only, root)
    old = refuse_old_figures(only, root)
    found = [finished for finished in read if finished.run not in old]
    tracker = open_tracker(name, **({} if to is None else {"to": to}))
    fresh = [finished for finished in found if not tracker.holds(finished.key)]
    for finished in fresh:
        tracker.write(finished)
    return Published([f.name for f in fresh], _names(found, fresh), _names(read, found), tracker.place())


def open_tracker(name: str, **options: Any) -> Tracker:
    """Open a tracker.

    Raises:
        ParameterError: its package is not installed.
    """
    try:
        return TRACKERS[name](**options)
    except ModuleNotFoundError as error:
        raise ParameterError(
            f"the package of {name} is not installed",
            where="reprise track",
            found=f"no module {error.name}",
            fix=f'Install it: `pip install "reprise[{name}]"`.',
        ) from error


def _names(found: Sequence[Finished], without: Sequence[Finished]) -> list[str]:
    return [finished.name for finished in found if finished not in without]
