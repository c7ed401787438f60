"""Decode many films side by side, in processes of their own: a film that ends its process costs that film alone."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from reprise.config.errors import MachineError
from reprise.runtime.workers import Lost, Workers
from stages.ingest.films.take import Result, Task, prepare, take_frames

SCRATCH = Path(".reprise/films")
_FILM_SECONDS = 7 * 86_400.0  # nothing in a film can hang for longer than `take.CPU_SECONDS` a frame
_CRASHES, _KILLS = 2, 5  # so many ends of a process, alone with a film, are the film's fault; kills may have others


def decode_films(tasks: Sequence[Task], max_pixels: int, workers: int) -> Iterator[Result]:
    """Take the frames of films, and yield what became of each in the order of `tasks`.

    Args:
        tasks: the films.
        max_pixels: `source.max_pixels`, which bounds the memory of a process.
        workers: number of processes.

    Raises:
        MachineError: films cannot be decoded, and the machine is the reason.
    """
    with Workers(take_frames, partial(prepare, max_pixels), min(workers, max(1, len(tasks)))) as pool:
        for task, result in zip(tasks, pool.run(tasks, _FILM_SECONDS), strict=True):
            yield _alone(pool, task) if isinstance(result, Lost) else result


def _alone(pool: Workers[Task, Result], task: Task) -> Result:
    """Decode a film again that lost its process; refuse it only if it ends its processes alone, repeatedly."""
    losses: list[Lost] = []
    while True:
        result: Result | Lost = pool.alone(task, _FILM_SECONDS, fresh=True)
        if not isinstance(result, Lost):
            return result
        losses.append(result)
        kills = sum(lost.killed for lost in losses)
        if kills >= _KILLS:
            raise MachineError(
                "something ends the processes that decode films",
                where=task.name,
                found=f"{len(losses) + 1} ends in a row; of the last, {losses[-1]}",
                fix="Look for what ends them (`dmesg` shows the out-of-memory killer), or remove the film.",
            )
        if len(losses) - kills >= _CRASHES:
            break
    if os.path.exists(task.output):
        os.unlink(task.output)
    detail = (
        f"It ended its decoding process {len(losses) + 1} times, alone in a fresh one at the end; the last time, "
        f"{losses[-1]}. Repair or remove it, then run again."
    )
    return Result(reason="crashed_decoder", detail=detail)


def scratch_folder(owner: object) -> Path:
    """Make a folder for frames that lives as long as `owner`; remove what processes that were killed have left."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    for left in SCRATCH.iterdir():
        number = left.name.partition("-")[0]
        if not (number.isdigit() and _lives(int(number))):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=SCRATCH.absolute()))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder


def _lives(process: int) -> bool:
    """Tell whether there is a process of this number; another user's counts too."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
