"""Let DVC start the stages of Reprise from a process that has loaded the large libraries, if there is one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.graph.in_dvc.stages_in_copies.libraries import one_thread, read_when_loaded
from pipeline.graph.in_dvc.stages_in_copies.starter import Starter, fork_starter

_PLAIN = re.compile(
    r"python -P (stages/run\.py|-m reprise\.start) stages\.[\w.]+( [\w./=:@%+,-]+)*"
)  # nothing for a shell
_starters: list[Starter] = []
_variables: dict[str, str] = {}  # under which the libraries are loaded


def prepare_to_start_stages(load: bool) -> None:
    """Make the process that starts stages; this process must not have started a thread yet.

    Args:
        load: whether it loads the libraries, once it has more than one stage to start.
    """
    if sys.platform == "linux":
        _variables.update(read_when_loaded(os.environ))
        _starters.append(fork_starter(load))


def end_starting() -> None:
    """End the process that starts stages, if there is one."""
    while _starters:
        _starters.pop().end()


def start_in_copy(plain: Callable[..., None]) -> Callable[..., None]:
    """Return `dvc.stage.run._run`, which runs the command of a stage, so that it starts our stages in copies.

    What does not have the form of a command of ours, runs with another Python, or asks for several threads, which the
    libraries would start when they are loaded, is left to DVC.
    """

    def run(executable: str | None, cmd: str, **options: Any) -> None:
        environment: Mapping[str, str] = options["env"]
        if not (_starters and _PLAIN.fullmatch(cmd) and _fits(environment)):
            plain(executable, cmd, **options)
            return
        before = None
        if threading.current_thread() is threading.main_thread():
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage answers it
        try:
            status = _starters[0].run(cmd.split(), environment, str(options["cwd"]))
        finally:
            if before is not None:
                signal.signal(signal.SIGINT, before)
        if status:
            from dvc.stage.exceptions import StageCmdFailedError

            raise StageCmdFailedError(cmd, status)

    return run


def _fits(environment: Mapping[str, str]) -> bool:
    """Tell whether the stage would start the same Python, and that would load the libraries in the same way."""
    same = one_thread(environment) and read_when_loaded(environment) == _variables
    return same and _this_python(environment)


def _this_python(environment: Mapping[str, str]) -> bool:
    found = shutil.which("python", path=environment.get("PATH", os.defpath))
    return found is not None and os.path.realpath(found) == os.path.realpath(sys.executable) and _same_folder(found)


def _same_folder(python: str) -> bool:
    """Tell whether it belongs to the same environment: those of `venv` all link to one interpreter."""
    return os.path.realpath(os.path.dirname(python)) == os.path.realpath(os.path.dirname(sys.executable))
