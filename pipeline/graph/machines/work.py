"""The function that Dask calls on a worker. It finds the clone of the process, and watches whether anybody waits."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from distributed import Worker, get_worker

from pipeline.graph.machines.clone import Clone

_LOOK_SECONDS = 0.5
_clones: dict[str, Clone] = {}  # "the" clone of this process


def serve(clone: Clone) -> None:
    """Let `compute` use a clone from now on."""
    _clones["the"] = clone


def compute(message: dict[str, Any], topic: str) -> dict[str, Any]:
    """Run the stage of a message in the clone of this process.

    Args:
        message: see `pipeline.graph.machines.message`.
        topic: of Dask's events, on which lines of output travel: ["line", text, whether of the error output], and once
            ["began", host, address of the worker].

    Returns:
        The answer, plain data.
    """
    worker = get_worker()
    clone = _clones.get("the")
    if clone is None:
        error = _NO_CLONE | {"where": worker.address}
        return {"form": 0, "state": "refused", "host": worker.address, "address": worker.address, "error": error}
    cancelled, ended = threading.Event(), threading.Event()
    watch = threading.Thread(target=_watch, args=(worker, worker.get_current_task(), cancelled, ended), daemon=True)
    watch.start()
    try:
        worker.log_event(topic, ["began", clone.host, worker.address])
        say = partial(_say, worker, topic)
        return {**clone.compute(message, say, cancelled), "address": worker.address}
    finally:
        ended.set()
        watch.join()


def _say(worker: Worker, topic: str, line: str, aside: bool) -> None:
    worker.log_event(topic, ["line", line, aside])


def _watch(worker: Worker, key: Any, cancelled: threading.Event, ended: threading.Event) -> None:
    """Cancel the stage when its leader has ended or taken the wish back, or when this worker ends."""
    while not ended.wait(_LOOK_SECONDS):
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled" or worker.status.name not in ("running", "paused"):
            cancelled.set()


_NO_CLONE = {
    "what": "this Dask worker has no clone of the project",
    "found": "a worker that `reprise worker` did not start",
    "fix": "Start workers with `reprise worker ADDRESS` in their clones.",
}
