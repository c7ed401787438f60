"""Become a stage, in a process that has just been copied (`fork`), as if Python had been started with its command."""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import NoReturn

from pipeline.processes.command_line import show_command_line

_OURS = ("pipeline", "reprise", "stages")  # loaded anew: the project may lie elsewhere, or have been edited


def become_stage(
    words: Sequence[str], environment: Mapping[str, str], folder: str, blocked: Sequence[signal.Signals]
) -> NoReturn:
    """Run a stage in this process and end it.

    Args:
        words: "python", "-P", then the script or "-m" and the module, then the arguments.
        environment: all environment variables of the stage.
        folder: in which it runs.
        blocked: signals that are blocked so far.
    """
    status = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        show_command_line(words)
        sys.orig_argv = [sys.executable, *words[1:]]
        _forget_our_modules()
        status = _run(list(words[2:]))
    except KeyboardInterrupt:  # before the stage was there to answer it
        print("interrupted: nothing was done yet", file=sys.stderr)
        status = 128 + signal.SIGINT
    finally:
        _end(status)


def _forget_our_modules() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
        del sys.modules[name]
    sys.meta_path[:] = [
        finder
        for finder in sys.meta_path
        if getattr(type(finder), "__module__", "") not in ("__main__", "reprise.start")
    ]
    importlib.invalidate_caches()


def _run(command: list[str]) -> int:
    """Run a script, or a module after "-m", as `__main__`, and return the exit status."""
    main = ModuleType("__main__")
    if command[0] == "-m":
        spec = importlib.util.find_spec(command[1])
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"No module named {command[1]!r}", name=command[1])
        path, arguments = spec.origin, command[2:]
        main.__spec__, main.__loader__, main.__package__ = spec, spec.loader, spec.parent
    else:
        path, arguments = command[0], command[1:]
        main.__package__ = None
    main.__file__ = os.path.abspath(path)
    sys.modules["__main__"] = main
    sys.argv[:] = [path, *arguments]
    try:
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
        exec(code, main.__dict__)  # noqa: S102 - the stage's own file, which DVC would have started
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except BaseException as error:  # noqa: BLE001 - nothing may return into the process that was copied
        trace = error.__traceback__
        error = error.with_traceback(trace.tb_next if trace else None)  # without this function
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


def _end(status: int) -> NoReturn:
    """End as the interpreter does: wait for threads, call what was registered for the exit, and write what is left."""
    try:
        getattr(threading, "_shutdown", lambda: None)()
        atexit._run_exitfuncs()  # noqa: SLF001 - what Process of multiprocessing calls at its end, too
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status & 0xFF)
