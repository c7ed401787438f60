"""Blocks of work on a Dask cluster: in bounded number, in order, with a sentence for all that may go wrong.

Dask's part is to place blocks, to notice workers that die, and to give their blocks to others. Ours is that a block is
a pure function of its task, so that it does not matter who does it or how often, and that results come in the order of
the tasks, so that sums have one order.

No graph is built: a block is submitted when an earlier one has been taken, so the scheduler, the workers and this
process hold `AHEAD` blocks a worker, whatever the number of all.
"""

from __future__ import annotations

import logging
import pickle
import secrets
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path
from signal import SIGKILL
from typing import Any, TypeVar

from reprise.config.errors import MachineError, ParameterError, RepriseError
from reprise.runtime.blocks.at_worker import do_block, forget
from reprise.runtime.blocks.terms import MARK, SHARED, START, Arithmetic, Terms, Unfit, modules_of, terms_of
from reprise.runtime.entry import cores, threads
from reprise.runtime.memory import memory_limit
from reprise.runtime.workers import Lost, without_interrupts
from reprise.storage.locks import FileLock

Task = TypeVar("Task")
AHEAD = 3  # blocks a worker that are submitted and not yet taken: one is computed, one waits, one is awaited
AHEAD_BYTES = 256 << 20  # tasks that are submitted hold no more than this, or a single one
CONNECT_SECONDS, WORKER_SECONDS, CLOSE_SECONDS = 20.0, 60.0, 10.0
LOOK_SECONDS = 5.0  # between two looks at whether there is a worker at all
MEMORY_SHARE = 0.8  # of the machine, for all local workers together
_LEAST_MEMORY = 1 << 30  # bytes a worker


class Cluster:
    """A client of a scheduler, and the local cluster where it is ours. `open_cluster` makes it.

    Attributes:
        client: Dask's.
        blocks: that were submitted so far.
        most_in_flight: of them at one time.
        folder: shared with the workers, for as long as this process uses the cluster.
    """

    def __init__(self, client: Any, local: Any, token: str, lock: FileLock) -> None:
        self.client, self._local, self._token, self._lock = client, local, token, lock
        self._count = 0 if local is None else len(local.worker_spec)
        self.folder = SHARED / token
        self._terms: dict[tuple[tuple[str, ...], bool], Terms] = {}
        self.blocks = self.most_in_flight = 0  # so far, for tests and benchmarks

    def workers(self) -> int:
        """Return how many workers there are; start those of this machine again that Dask gave up.

        Dask restarts a worker that is killed, but not one that is killed while it starts.
        """
        found = len(self.client.nthreads())
        if self._local is not None and found < self._count:
            self._local.scale(self._count)
        return found

    def computed(
        self, function: Callable[[Task], Any], tasks: Iterable[Task], code: Sequence[str] = ()
    ) -> Iterator[Any]:
        """Yield `function(task)` for each task, in order, computed in the workers' own processes.

        Args:
            function: an importable function, or a partial of one, whose result depends on its task alone.
            tasks: can be pickled.
            code: modules that the function looks up by name.

        Raises:
            MachineError: workers are lost again and again, unfit, or unreachable.
            whatever the function raises.
        """
        for result in self._run(function, None, 0.0, tasks, self._stated(function, code, computes=True)):
            if isinstance(result, Lost):
                raise MachineError(
                    "blocks end the Dask workers that compute them",
                    where=modules_of(function, ())[-1],
                    found=f"several workers in a row; {result}",
                    fix="Look for what ends them (a worker's memory limit, `dmesg`), or give workers more memory.",
                )
            yield result

    def apart(
        self,
        function: Callable[[Task], Any],
        prepare: Callable[[], None],
        tasks: Iterable[Task],
        seconds: float,
        code: Sequence[str] = (),
    ) -> Iterator[Any]:
        """Yield a result or a `Lost` for each task, in order, as `Workers.run` does.

        Each worker does these blocks in a process of its own, which a task may crash.

        Args:
            function, prepare, seconds: as for `Workers`.
            tasks: can be pickled.
            code: modules that the function looks up by name.

        Raises:
            MachineError: workers are unfit or unreachable.
        """
        yield from self._run(function, prepare, seconds, tasks, self._stated(function, code, computes=False))

    def close(self) -> None:
        """Leave the cluster; local workers end."""
        _remove(self.folder, self._lock)  # first: after Ctrl-C there is a second for all of this
        with suppress(Exception):  # the cluster may be gone: what follows must be done all the same
            if self._local is None:
                self.client.run(forget, on_error="ignore")
        with suppress(Exception):
            self.client.close(timeout=CLOSE_SECONDS)
        with suppress(Exception):
            if self._local is not None:
                self._local.close(timeout=CLOSE_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)  # what workers wrote there while they ended

    def _stated(self, function: Callable[..., Any], code: Sequence[str], computes: bool) -> Terms:
        key = modules_of(function, code), computes
        if key not in self._terms:
            self._terms[key] = terms_of(self._token, *key)
        return self._terms[key]

    def _run(self, function: Any, prepare: Any, seconds: float, tasks: Iterable[Any], terms: Terms) -> Iterator[Any]:
        waiting: deque[tuple[Any, int]] = deque()
        most, looked, held = self._most(), time.monotonic(), 0
        try:
            for task in tasks:
                block = pickle.dumps((function, prepare, seconds, task), protocol=pickle.HIGHEST_PROTOCOL)
                while waiting and (len(waiting) >= most or held + len(block) > AHEAD_BYTES):
                    future, size = waiting.popleft()
                    held -= size
                    yield self._taken(future, terms)
                    if time.monotonic() - looked > LOOK_SECONDS:  # workers come one after the other
                        most, looked = self._most(), time.monotonic()
                waiting.append((self._submitted(terms, block), len(block)))
                held += len(block)
                self.blocks += 1
                self.most_in_flight = max(self.most_in_flight, len(waiting))
            while waiting:
                yield self._taken(waiting.popleft()[0], terms)
        finally:
            with suppress(Exception):
                if waiting:
                    self.client.cancel([future for future, _ in waiting], force=True)

    def _most(self) -> int:
        """Return how many blocks may be in flight."""
        try:
            return AHEAD * max(1, self.workers())
        except Exception as error:
            raise _scheduler_gone(error) from error

    def _submitted(self, terms: Terms, block: bytes) -> Any:
        try:
            return self.client.submit(do_block, terms, block, pure=False)
        except Exception as error:
            raise _scheduler_gone(error) from error

    def _taken(self, future: Any, terms: Terms) -> Any:
        """Wait for a block and return its result, or a `Lost`."""
        kind, value = self._answer(future)
        future.release()
        if kind == "unfit":
            assert isinstance(value, Unfit)
            raise MachineError(
                "a Dask worker cannot do this stage's blocks",
                where=value.who,
                found=value.explained(terms.modules),
                fix=value.fix,
            )
        if kind == "raised":
            raise value
        return value

    def _answer(self, future: Any) -> tuple[str, Any]:
        from distributed import KilledWorker, wait
        from distributed import TimeoutError as NotYet

        alone: float | None = None  # since when there has been no worker
        while True:
            try:
                with self.client.as_current():
                    wait(future, timeout=LOOK_SECONDS)
                answer: tuple[str, Any] = future.result(timeout=WORKER_SECONDS)
                return answer
            except (NotYet, UnboundLocalError) as error:  # the latter where time is over while a result is on its way
                if future.cancelled():
                    raise _scheduler_gone(error) from error
                alone = self._no_worker_since(alone)
            except KilledWorker:
                return "done", Lost(-SIGKILL)
            except CancelledError as error:
                raise _scheduler_gone(error) from error
            except RepriseError:
                raise
            except Exception as error:  # a worker could not even load the block
                raise MachineError(
                    "a Dask worker cannot load this project's code",
                    where="the Dask cluster",
                    found=f"{type(error).__name__}: {error}",
                    fix=f"{START}.",
                ) from error

    def _no_worker_since(self, since: float | None) -> float | None:
        try:
            count = self.workers()
        except Exception as error:
            raise _scheduler_gone(error) from error
        if count:
            return None
        now = time.monotonic()
        if since is not None and now - since > WORKER_SECONDS:
            raise _no_worker()
        return now if since is None else since


def open_cluster(address: str | None, count: int | None) -> Cluster:
    """Open a cluster.

    Args:
        address: of a scheduler; None starts workers on this machine.
        count: of workers on this machine; None takes as many as have a core for each of their threads.

    Raises:
        ParameterError: Dask is not installed.
        MachineError: the scheduler cannot be reached, or it has no worker in time.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ParameterError(
            "blocks on Dask need its package",
            where="REPRISE_DASK",
            found=error,
            fix="Install it: pip install 'reprise-ssl[dask]', or unset REPRISE_DASK.",
        ) from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is said in sentences here
    token, lock = _shared_folder()
    local = None
    try:
        if address is None:
            local = _local_cluster(count or max(1, cores() // threads()), SHARED / token)
        with without_interrupts():
            client = Client(local or address, timeout=CONNECT_SECONDS, set_as_default=False, heartbeat_interval=5000)
        found = Cluster(client, local, token, lock)
    except Exception as error:
        if local is not None:
            local.close(timeout=CLOSE_SECONDS)
        _remove(SHARED / token, lock)
        raise MachineError(
            "the Dask scheduler cannot be reached" if address else "no Dask worker can be started on this machine",
            where=address or "local",
            found=f"{type(error).__name__}: {error}",
            fix="Start it (`dask scheduler`), correct REPRISE_DASK, or unset it to use this machine alone.",
        ) from error
    try:
        _wait_for_worker(found)
    except BaseException:
        found.close()
        raise
    return found


def _wait_for_worker(cluster: Cluster) -> None:
    began = time.monotonic()
    while True:
        try:
            threads_of = cluster.client.nthreads()
        except Exception as error:
            raise _scheduler_gone(error) from error
        if more := {who: count for who, count in threads_of.items() if count != 1}:
            who, number = next(iter(more.items()))
            raise MachineError(
                "a Dask worker would do several blocks in one process",
                where=who,
                found=f"{number} threads",
                fix="Start more workers with `--nthreads 1` in its place, as reprise.runtime.blocks.worker does.",
            )
        if threads_of:
            return
        if time.monotonic() - began > WORKER_SECONDS:
            raise _no_worker()
        time.sleep(0.1)


def _local_cluster(count: int, folder: Path) -> Any:
    """Start workers of this machine, which end with this process, however it ends.

    They talk over loopback with certificates made for the occasion: a port of Dask's runs the code of whoever reaches
    it, and other users of this machine reach ports on loopback.
    """
    import dask
    from distributed import LocalCluster

    memory = int(MEMORY_SHARE * (memory_limit() or 4 << 30)) // count
    dask.config.set(
        {
            "distributed.worker.daemon": False,  # blocks that may crash are done in a process of the worker's own
            "distributed.nanny.pre-spawn-environ": {
                name: value for name, value in Arithmetic.here().variables if value
            },
            "distributed.worker.profile.enabled": False,
            "distributed.deploy.lost-worker-timeout": "5s",
            "distributed.scheduler.http.routes": [],
            "distributed.worker.http.routes": [],
            "distributed.admin.system-monitor.gil.enabled": False,
        }
    )
    # The tracker of semaphores outlives a process that ends at once, and frees them: nobody needs to read that it does.
    quietly = "ignore::UserWarning:multiprocessing.resource_tracker"
    sys.warnoptions.append(quietly)  # for the tracker alone, which takes over what is here
    resource_tracker.ensure_running()  # now: when it starts, it lets signals through again
    sys.warnoptions.remove(quietly)
    with without_interrupts():  # the loop's thread, and the workers that it starts, inherit this
        return LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # a free port, on which nothing is served
            security=True,
            memory_limit=max(memory, _LEAST_MEMORY),
            local_directory=str(folder / "dask"),
            silence_logs=logging.CRITICAL,
        )


def _shared_folder() -> tuple[str, FileLock]:
    """Make the folder that workers read from, and remove those of processes that have ended."""
    SHARED.mkdir(parents=True, exist_ok=True)
    for other in SHARED.iterdir():
        folder = SHARED / other.name.removesuffix(".lock")
        lock = FileLock(folder.with_suffix(".lock"))
        if lock.take():
            _remove(folder, lock)
    token = secrets.token_hex(16)
    lock = FileLock(SHARED / f"{token}.lock")
    lock.take()
    (SHARED / token).mkdir()
    (SHARED / token / MARK).write_text(token, encoding="utf-8")
    return token, lock


def _remove(folder: Path, lock: FileLock) -> None:
    """Remove the shared folder of a stage, and give up its lock."""
    shutil.rmtree(folder, ignore_errors=True)
    lock.path.unlink(missing_ok=True)
    lock.release()


def _no_worker() -> MachineError:
    return MachineError(
        "the Dask cluster has no worker",
        where="the Dask cluster",
        found=f"none for {WORKER_SECONDS:.0f} seconds",
        fix=f"{START}, then run again.",
    )


def _scheduler_gone(error: BaseException) -> MachineError:
    return MachineError(
        "the Dask scheduler was lost",
        where="the Dask cluster",
        found=f"{type(error).__name__}: {error}",
        fix="Start it again, and run again: what was finished is kept.",
    )
