"""The processes of one training: how they are started, how they find each other, and how they end together.

The process that DVC started is the first rank, and starts the others with the same command (`train.processes`). They
meet through a file, and talk over the loopback interface (gloo) or between GPUs (nccl). Where torchrun has set its
variables (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT, LOCAL_RANK), on one machine or several, all of them run already.

No rank outlives the first one: each asks the system to end with it (reprise/runtime/entry.py), and is killed where it
ends by an error. When another rank ends before its work is done, a thread of the first one says so and ends the
training, since the main thread may wait for that rank in a call into C. torchrun watches the ranks that it started, and
ends them all; what a rank hears of another's end before that is a sentence as well.

Only the first rank writes and tells. What others print is kept, and shown where one of them ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from reprise.config.errors import MachineError, TrainingError, printable
from reprise.runtime import interrupts
from reprise.runtime.ranks.place import STORE, Place, place_of

if TYPE_CHECKING:
    from reprise.runtime.world import World

_LOOPBACK = {"linux": "lo", "darwin": "lo0"}
_EVERY_SECONDS = 0.1
_GRACE_SECONDS = 3.0  # for the first rank to say itself what all of them ran into
_END_SECONDS = 20.0  # for the others to end once the work is done
_SHOWN = 200  # characters of torch's words
ADVICE = "Run `reprise repro` again: it continues from the last checkpoint."
ADVICE_FOR_TORCHRUN = "Start all processes again by torchrun: the training continues from the last checkpoint."


@contextmanager
def together(processes: int, device: str, command: Sequence[str]) -> Iterator[World]:
    """Train in several processes: start and meet them, and see to it that they end together.

    Args:
        processes: train.processes of the run.
        device: `cpu` or `cuda`.
        command: what starts another rank, the interpreter first.

    Yields:
        the world of all processes.

    Raises:
        TrainingError: torchrun started another number of processes, or one of them has ended too early or hangs.
        MachineError: there are fewer GPUs than processes.
    """
    place = place_of(os.environ)
    size = processes if place is None else place.size
    if size != processes:
        raise TrainingError(
            "torchrun started another number of processes than the run asks for",
            where="train.processes",
            found=f"{processes}, with WORLD_SIZE {size}",
            fix=f"Set train.processes to {size}, or start {processes}.",
        )
    if size == 1:
        from reprise.runtime.world import ALONE

        yield ALONE
        return
    if place is not None:
        try:
            with _met(place, device, os.environ.get(STORE)) as world:
                yield world
        except RuntimeError as error:
            if (lost := _lost(error, ADVICE if STORE in os.environ else ADVICE_FOR_TORCHRUN)) is None:
                raise
            raise lost from error
        return
    if device == "cuda":
        _refuse_gpus(size, size)
    folder = Path(tempfile.mkdtemp(prefix="reprise-ranks-"))
    others = _Others(size, command, folder)
    try:
        others.start()
        with others.watched(), _met(Place(0, size, 0), device, str(others.store)) as world:
            if device == "cpu":  # nccl looks into the file once more when it is first used
                shutil.rmtree(folder, ignore_errors=True)
            yield world
        others.finish()
    except RuntimeError as error:  # what torch raises where another process is gone
        reason = others.reason() or _lost(error, ADVICE)  # one that hangs has not ended
        if reason is None:
            raise
        raise reason from error
    finally:
        others.end()


@contextmanager
def _met(place: Place, device: str, store: str | None) -> Iterator[World]:
    """Join the other processes, and part from them."""
    import torch

    from reprise.runtime import world

    if device == "cuda":
        _refuse_gpus(place.local + 1, place.size)
        torch.cuda.set_device(place.local)
    if place.rank:
        os.environ["REPRISE_QUIET"] = "1"  # the first rank shows the progress
    if store is not None and sys.platform in _LOOPBACK:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK[sys.platform])
    with world.naming_losses():
        joined = world.join(place.rank, place.size, device, None if store is None else Path(store))
        try:
            if device == "cpu":
                joined.gather(torch.zeros(1), [1] * joined.size)  # all have read the store once this returns
            yield joined
        finally:
            world.leave()


def _lost(error: RuntimeError, fix: str) -> TrainingError | None:
    """Say that another process is gone, where torch's error means that."""
    from reprise.runtime.world import RankLostError

    if not isinstance(error, RankLostError):
        return None
    return TrainingError(
        "another process of this training has ended or cannot be reached",
        where="train.processes",
        found=printable(str(error).partition("\n")[0], _SHOWN),
        fix=fix,
    )


def _refuse_gpus(needed: int, processes: int) -> None:
    """Refuse processes that would have no GPU of their own.

    Raises:
        MachineError: fewer GPUs are visible than needed on this machine.
    """
    import torch

    there = torch.cuda.device_count()
    if there < needed:
        raise MachineError(
            "each process of a training needs a GPU of its own",
            where="train.processes",
            found=f"{processes} processes, {there} visible GPUs",
            fix=f"Set train.processes to at most {there}, or train.device to cpu.",
        )


class _Others:
    """The ranks that the first one started.

    Args:
        size: processes, the first one included.
        command: what starts one.
        folder: empty; for the file through which they meet.
    """

    def __init__(self, size: int, command: Sequence[str], folder: Path) -> None:
        self.size, self.command, self.folder = size, list(command), folder
        self.store = folder / "store"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.printed: list[IO[bytes]] = []
        self.done = threading.Event()

    def start(self) -> None:
        """Start all of them."""
        for rank in range(1, self.size):
            own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": self.size, STORE: self.store, "REPRISE_QUIET": 1}
            variables = os.environ | {name: str(value) for name, value in own.items()}
            printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
            self.printed.append(printed)
            self.processes.append(
                subprocess.Popen(self.command, env=variables, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed)
            )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """End this process soon after one of the others has failed, until the block ends."""
        threading.Thread(target=self._watch, name="ranks", daemon=True).start()
        try:
            yield
        finally:
            self.done.set()

    def _watch(self) -> None:
        while not self.done.wait(_EVERY_SECONDS):
            if (rank := self._failed()) is None:
                continue
            crashed = self.processes[rank - 1].returncode < 0
            # An error that all ranks run into is said by the main thread, unless that waits for the one that is gone.
            if self.done.wait(_EVERY_SECONDS if crashed else _GRACE_SECONDS):
                return
            error = self._error(rank)
            self.end()
            interrupts.end_now(1, f"error: {error}")

    def _failed(self) -> int | None:
        """Return a rank that has ended otherwise than well: one that was killed, as others may fail because of it."""
        failed = [(status > 0, rank) for rank, process in enumerate(self.processes, 1) if (status := process.poll())]
        return min(failed)[1] if failed else None

    def _error(self, rank: int) -> TrainingError:
        status = self.processes[rank - 1].returncode
        how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        last = self._last_line(rank)
        return TrainingError(
            f"process {rank} of the {self.size} that train together has ended, so the training ends",
            where="train.processes",
            found=f"it was {how}" + (f"; it said: {last}" if last else ""),
            fix=ADVICE,
        )

    def _last_line(self, rank: int) -> str:
        """Return the last line that a rank printed."""
        file = self.printed[rank - 1]
        file.seek(0)
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def reason(self) -> TrainingError | None:
        """Say why talking to the others failed: one of them has ended. None where all of them live."""
        end = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < end:
            if (rank := self._failed()) is not None:
                return self._error(rank)
            time.sleep(_EVERY_SECONDS)
        return None

    def finish(self) -> None:
        """Wait until the others have ended; their work is done."""
        end = time.monotonic() + _END_SECONDS
        for process in self.processes:
            with_time_left = max(0.0, end - time.monotonic())
            try:
                process.wait(with_time_left)
            except subprocess.TimeoutExpired:
                return  # `end` does it

    def end(self) -> None:
        """Kill those that still run, and remove what they left."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
        for process in self.processes:
            process.wait()
        for file in self.printed:
            file.close()
        shutil.rmtree(self.folder, ignore_errors=True)
