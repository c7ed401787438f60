"""What runs in a Dask worker's process: judge the terms, then do one block.

A block comes as bytes, which are unpickled after the terms have been judged: other code might not even load.
"""

from __future__ import annotations

import os
import pickle
from typing import Any

from reprise.runtime.blocks import shared
from reprise.runtime.blocks.terms import Fitness, Terms
from reprise.runtime.workers import NoProcessError, Workers

_fitness = Fitness()
_pools: dict[tuple[str, Any], Workers[Any, Any]] = {}  # by token and function: a process for blocks that may crash


def do_block(terms: Terms, block: bytes) -> tuple[str, Any]:
    """Do one block.

    Args:
        terms: what this process must meet.
        block: pickled (function, prepare, seconds, task). With `prepare`, the task is done in a process of its own, as
            `Workers` does it: decoders of bytes from outside may crash.

    Returns:
        ("unfit", Unfit), ("done", result), or ("raised", exception).
    """
    os.environ.pop("REPRISE_DASK", None)  # a block never hands out blocks
    os.environ["REPRISE_QUIET"] = "1"  # the stage shows how far all blocks are
    unfit = _fitness.judge(terms)
    if unfit is not None:
        return "unfit", unfit
    if shared.begin(terms.token):
        _end_processes()
    try:
        function, prepare, seconds, task = pickle.loads(block)  # noqa: S301 - from the stage, by Dask's scheduler
        if prepare is None:
            return "done", function(task)
        return "done", _apart(terms.token, function, prepare, seconds, task)
    except Exception as error:  # noqa: BLE001 - raised again in the stage
        try:
            pickle.dumps(error)
        except Exception:  # noqa: BLE001
            return "raised", RuntimeError(repr(error))
        return "raised", error


def forget() -> None:
    """End the processes, and drop all that blocks of a stage have shared."""
    shared.forget()
    _end_processes()


def _end_processes() -> None:
    for pool in _pools.values():
        pool.__exit__()
    _pools.clear()


def _apart(token: str, function: Any, prepare: Any, seconds: float, task: Any) -> Any:
    place = token, pickle.dumps((function, prepare))
    if place not in _pools:
        _pools[place] = Workers(function, prepare, 1)
    try:
        return next(_pools[place].run([task], seconds))
    except NoProcessError:
        del _pools[place]
        raise
