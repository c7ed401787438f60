"""Work that follows a training without touching it: figures, judgements, checkpoints.

On a CPU it is done at once. On a GPU a second thread does it from copies while the next steps run, because a host that
waits for a result leaves the GPU without work. Tasks are done one after the other, in the order in which they came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

MOST_OPEN = 4  # tasks; each may hold a copy of the whole training


class Aside:
    """Does tasks in order; a context manager, which at a regular end waits for all of them.

    Args:
        threaded: a second thread does them.
    """

    def __init__(self, threaded: bool) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="aside") if threaded else None
        self._open: deque[Future[None]] = deque()

    def do(self, task: Callable[..., None], *arguments: Any) -> None:
        """Do a task, now or soon; raise what an earlier one raised."""
        if self._pool is None:
            task(*arguments)
            return
        while self._open and (self._open[0].done() or len(self._open) >= MOST_OPEN):
            self._open.popleft().result()
        self._open.append(self._pool.submit(task, *arguments))

    def wait(self) -> None:
        """Wait until all tasks are done and what they held is released; raise what one of them raised."""
        if self._pool is None:
            return
        while self._open:
            self._open.popleft().result()
        # A thread lets go of a task's arguments after it has told the result, and before it takes the next task.
        self._pool.submit(tuple).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is None:
            return
        try:
            while self._open and kind is None:
                self._open.popleft().result()
        finally:
            # A task that has begun ends, so that no checkpoint is given up half-way; the others are dropped.
            self._pool.shutdown(cancel_futures=True)
