"""How a stage's process starts and ends.

Before heavy imports it sets the allocator, the number of threads and the parent-death signal; at the end it turns
expected errors into a sentence and an exit status. It never imports torch: `python -m stages.<stage> --help` and a
refused parameter answer at once.
"""

from __future__ import annotations

import argparse
import atexit
import ctypes
import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import FrameType

from reprise.config import telemetry
from reprise.config.errors import MachineError, RepriseError
from reprise.runtime import interrupts
from reprise.runtime.blocks.closing import closed_afterwards
from reprise.runtime.declared_inputs import take_inputs
from reprise.runtime.encoding import use_utf8
from reprise.runtime.ranks.place import follows
from reprise.runtime.watchdog import watch_parents
from reprise.storage.running import announced
from reprise.storage.system.machine import says_no_memory
from reprise.storage.system.refusals import refusal

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's mallopt(3)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_KEEP_BYTES = 1 << 30
EXIT_EXPECTED = 1
INTERRUPTED = "interrupted: `reprise repro` continues from the last checkpoint"
TERMINATED = "terminated: `reprise repro` continues from the last checkpoint"
_NAMING: dict[str, list[str]] = {"--run": [], "--name": [], "--suite": [], "--seed": ["seed"]}
WORKERS = "REPRISE_WORKERS"  # this stage's share of the cores, where others run beside it
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
ALLOCATOR_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")  # glibc's own; they win


def threads() -> int:
    """Return how many threads a stage computes with: REPRISE_THREADS, or one.

    The last bits of results may depend on it, so the default is the same on every machine. Threads that wait for each
    other lose most of their speed beside other work, whereas stages that run at once do not wait.
    """
    return _asked_threads() or 1


def workers() -> int:
    """Return how many workers may share work whose result does not depend on them.

    REPRISE_THREADS says so, or the share of the cores that a stage gets beside others (REPRISE_WORKERS), or all cores.
    """
    return _asked_threads() or min(cores(), _asked_threads(WORKERS) or cores())


def _asked_threads(variable: str = "REPRISE_THREADS") -> int | None:
    asked = os.environ.get(variable, "")
    return max(1, int(asked)) if asked.isdigit() else None


def cores() -> int:
    """Return how many cores this process may use: those of its affinity, or the whole ones of a container's quota."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(found, container_cores(Path("/sys/fs/cgroup/cpu.max"), found)))


def container_cores(quota_file: Path, cores: int) -> int:
    """Return the whole cores of a cgroup's CPU quota: more threads than these wait for each other at every barrier.

    Args:
        quota_file: holds "<microseconds or max> <period>".
        cores: the answer where there is no quota.
    """
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
        return cores if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return cores


def prepare_process() -> None:
    """Set allocator, threads, telemetry and the parent-death signal; call it before importing numpy or torch."""
    for name, value in telemetry.OFF.items():
        os.environ.setdefault(name, value)
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, str(threads()))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        keep_freed_memory(libc)
        parent = os.getppid()
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the request took effect
            os.kill(os.getpid(), signal.SIGTERM)
    watch_parents()


def keep_freed_memory(libc: ctypes.CDLL) -> None:
    """Let glibc keep freed pages: faulting them in anew in every training step takes 15 to 60 % of the speed.

    Nothing changes where the user has configured glibc's allocator, or where there is no glibc.
    """
    if hasattr(libc, "mallopt") and not any(name in os.environ for name in ALLOCATOR_VARIABLES):
        libc.mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)


def arguments_of(
    argv: list[str], module: str, description: str | None, names: dict[str, str], *, restart: bool = False
) -> argparse.Namespace:
    """Parse the command line of a stage that DVC starts for each name and seed.

    Args:
        argv: without the program's name.
        module: as in "stages.embed".
        description: the module's docstring.
        names: each option and the table of params.yaml whose rows it names: {"run": "runs"}.
        restart: whether the stage keeps work that `--restart` can discard.

    Returns:
        A namespace with these names, `seed` and `restart`.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    for name, table in names.items():
        parser.add_argument(f"--{name}", required=True, help=f"a row of `{table}` in params.yaml")
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--quiet", action="store_true", help="show no progress (REPRISE_QUIET=1 for the whole graph)")
    if restart:
        parser.add_argument("--restart", action="store_true", help="discard the work of an interrupted run")
    arguments = parser.parse_args(argv)
    if arguments.quiet:
        os.environ["REPRISE_QUIET"] = "1"  # read by progress.py, in workers too
    return arguments


def run_stage(main: Callable[[list[str]], None], algebra: bool = True) -> None:
    """Run a stage's `main(argv)` and exit with 0, 1 for an expected error (a sentence on stderr), or 130 for Ctrl-C.

    REPRISE_TRACEBACK=1 shows the traceback of expected errors as well.

    Args:
        main: of the stage.
        algebra: whether the stage computes with matrices. Otherwise the libraries for that get no threads: OpenBLAS
            starts them when numpy is imported, and ends the process with SIGINT where the system has none left.
    """
    use_utf8()
    if not algebra:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    prepare_process()
    faulthandler.enable(2)  # a crash in a library prints where it happened, not only "exited with -11"
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGTERM, _terminated)
    sys.unraisablehook = _raise_again
    atexit.register(_end_as_asked)
    with interrupts.ending_soon({signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}):
        _run(main)


def _run(main: Callable[[list[str]], None]) -> None:
    """Run a stage's `main` between the first and the last look at its inputs; expected errors become sentences."""
    try:
        silent = follows()  # another process speaks for this work, and answers for its inputs
        with nullcontext() if silent else announced(title_of(sys.orig_argv), "stage"):
            inputs = None if silent else take_inputs(sys.orig_argv)
            with closed_afterwards():
                main(sys.argv[1:])
            if inputs is not None:
                inputs.finish()
        if inputs is not None:
            _end_at_once()
    except (RepriseError, OSError) as error:
        message = refusal(error) if isinstance(error, OSError) else error
        if os.environ.get("REPRISE_TRACEBACK") == "1" or message is None:
            raise
        print(f"error: {message}", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_EXPECTED) from None
    except (MemoryError, RuntimeError, ImportError) as error:
        if os.environ.get("REPRISE_TRACEBACK") == "1" or not says_no_memory(error):
            raise
        print(f"error: {_no_memory(error)}", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_EXPECTED) from None
    except KeyboardInterrupt:
        interrupts.say(INTERRUPTED)
        raise SystemExit(130) from None


def _no_memory(error: BaseException) -> MachineError:
    return MachineError(
        "this stage has too little memory",
        where=title_of(sys.orig_argv),
        found=(str(error).splitlines() or [type(error).__name__])[0],
        fix="Close other programs, raise the limit (of `ulimit -v`, of the container, a larger device), or ask for "
        "less at once: train.batch_size with train.accumulate, train.chunk_size, or cache.memory_bytes.",
    )


def title_of(command: Sequence[str]) -> str:
    """Name the work of a stage's process, as its title in the graph does: "pretrain simclr seed 0".

    Args:
        command: the command line with the interpreter, as in sys.orig_argv.
    """
    place = next((i for i, word in enumerate(command) if word.startswith("stages.")), None)
    if place is None:
        return " ".join(command[1:4])
    module, arguments = command[place], iter(command[place + 1 :])
    words = [module.rpartition(".")[2]]
    for argument in arguments:
        option, _, value = argument.partition("=")
        if option in _NAMING:
            words += [*_NAMING[option], value or next(arguments, "")]
    return " ".join(words)


def _end_at_once() -> None:
    """End successfully without taking the interpreter down piece by piece.

    With torch in it that takes a fifth of a second, during which the inputs could change between the stage's last
    comparison and DVC's record.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _interrupted(signum: int, frame: FrameType | None) -> None:
    interrupts.end_while_loading(signum, frame, INTERRUPTED)
    raise KeyboardInterrupt


def _terminated(signum: int, frame: FrameType | None) -> None:
    interrupts.end_while_loading(signum, frame, TERMINATED)
    interrupts.say(TERMINATED)
    raise SystemExit(128 + signum)


_held_back: list[SystemExit | KeyboardInterrupt] = []  # a signal's exception that Python has ignored


def _raise_again(ignored: sys.UnraisableHookArgs) -> None:
    """Raise a signal's exception again a moment later: Python ignores exceptions that come up inside a destructor."""
    error = ignored.exc_value
    if not isinstance(error, SystemExit | KeyboardInterrupt):
        sys.__unraisablehook__(ignored)
        return
    _held_back[:] = [error]

    def again(signum: int, frame: object) -> None:
        _held_back.clear()
        raise error

    signal.signal(signal.SIGALRM, again)
    signal.setitimer(signal.ITIMER_REAL, 0.01)


def _end_as_asked() -> None:
    """End with the status of a signal whose exception was ignored and that something else overtook.

    The interpreter is about to take its signal handlers away: the timer would then kill the process.
    """
    sys.unraisablehook = sys.__unraisablehook__
    signal.setitimer(signal.ITIMER_REAL, 0)
    if not _held_back:
        return
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    if isinstance(_held_back[0], SystemExit):
        os._exit(128 + signal.SIGTERM)
    interrupts.say(INTERRUPTED)
    os._exit(130)
