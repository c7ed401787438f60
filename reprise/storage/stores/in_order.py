"""Do many requests at once, bounded, in a fixed order, and each again where the network or the server fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from reprise.config.errors import MachineError
from reprise.storage.stores.store import Settings, UnreachableError

_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds before the second attempt; each further pause is twice as long
_AHEAD = 4  # requests for each thread that are begun before their turn
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(function: Callable[[Item], Result], items: Iterable[Item], settings: Settings) -> Iterator[Result]:
    """Yield the results of a function for items, in their order; never more than a few per thread are in memory.

    Args:
        function: called in threads; what it raises is raised here when its turn comes.
        items: its arguments.
        settings: the number of calls at once.
    """
    threads = settings.threads
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= _AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        settings.stop.set()  # after an error, no thread goes on trying
        pool.shutdown(wait=True, cancel_futures=True)
        settings.stop.clear()


def patiently(function: Callable[[], Result], settings: Settings, where: str) -> Result:
    """Call a function that asks a store, several times where that fails for the moment.

    Args:
        function: what asks.
        settings: the number of attempts.
        where: for the message.

    Raises:
        MachineError: all attempts failed. It ends ingest, since the result must depend on the objects alone.
    """
    for attempt in range(settings.attempts):
        try:
            return function()
        except UnreachableError as error:
            if attempt + 1 == settings.attempts:
                raise MachineError(
                    "a store cannot be read over the network",
                    where=where,
                    found=f"{error.found}, {settings.attempts} times in a row",
                    fix=f"Try again later, or raise {settings.options}.attempts or {settings.options}.timeout. "
                    "What was fetched is kept, and is not fetched again.",
                ) from error
            settings.stop.wait(max(error.wait, min(_PAUSE * 2**attempt, _LONGEST_PAUSE)))
            if settings.stop.is_set():
                break
    raise MachineError("the request was given up", where=where, found="another one failed", fix="Try again later.")
