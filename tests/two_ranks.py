"""Two processes that have met, for tests of what they compute together. They are started once for all tests."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SECONDS = 120  # for one answer


class TwoRanks:
    """Calls functions in both processes; a function gets its arguments and then the `World` of the process."""

    def __init__(self, store: Path) -> None:
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(2)]
        self.connections = [mine for mine, _ in pipes]
        self.processes = [
            context.Process(target=_serve, args=(rank, store, theirs), daemon=True)
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process in self.processes:
            process.start()

    def call(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Call an importable function in both processes and return what it returns in each."""
        for connection in self.connections:
            connection.send((function, arguments))
        answers = []
        for rank, connection in enumerate(self.connections):
            assert connection.poll(SECONDS), f"rank {rank} does not answer"
            failed, answer = connection.recv()
            assert not failed, f"rank {rank}: {answer}"
            answers.append(answer)
        return answers

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


def _serve(rank: int, store: Path, connection: Connection) -> None:
    import torch

    from reprise.runtime.world import join

    torch.set_num_threads(1)
    world = join(rank, 2, "cpu", store)
    while True:
        function, arguments = connection.recv()
        try:
            connection.send((False, function(*arguments, world)))
        except BaseException:  # noqa: BLE001  the test that asked shows it
            connection.send((True, traceback.format_exc()))
