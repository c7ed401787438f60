"""The next batch is read while the present one is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(make: Callable[[T], R], items: Iterable[T], depth: int = 1) -> Iterator[R]:
    """Yield `make(item)` for each item, in order; another thread makes the next ones meanwhile.

    Args:
        make: reads one batch. It is called by one thread at a time, in order.
        items: what to make batches of.
        depth: batches that are made before they are asked for, besides the one in use.

    Raises:
        whatever `make` raises, when that batch is asked for.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
