"""Say which stage of how many begins, in the order in which DVC goes through them."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import dvc.repo.reproduce
from dvc.stage.exceptions import StageCmdFailedError

from pipeline.graph.definition import load_graph
from reprise.config.errors import RepriseError, printable
from reprise.storage.running import report_step

_INTERRUPTED = re.compile(rf", exited with (130|-{signal.SIGINT:d})$")
_places: dict[str, str] = {}  # DVC's name of a stage -> "stage 12 of 76"


def count_stages(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return `dvc.repo.reproduce._reproduce` with a report of each stage that it looks at."""

    def reproduce(stages: Sequence[Any], *arguments: Any, repro_fn: Any = None, **options: Any) -> Any:
        names = [stage.addressing for stage in stages]
        ran: list[str] = []
        look_at = repro_fn or dvc.repo.reproduce._reproduce_stage  # noqa: SLF001

        def report(stage: Any, **more: Any) -> Any:
            number = names.index(stage.addressing) + 1
            if len(names) > 1:
                report_step(number, len(names), stage.addressing, waiting=names[number:], ran=ran)
                _places[stage.addressing] = f"stage {number} of {len(names)}"
            done = look_at(stage, **more)
            if done:  # nothing is returned for a stage that is up to date
                ran.append(stage.addressing)
            return done

        return plain(stages, *arguments, repro_fn=report, **options)

    return reproduce


def say_before(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return `dvc.stage.run.cmd_run`, which starts the command of a stage, with a line that says which one it is."""

    def run(stage: Any, *arguments: Any, **options: Any) -> Any:
        name = stage.addressing
        if name in _places:
            print(printable(f"{_places[name]}, {_titles().get(name, name)}"), flush=True)
        try:
            return plain(stage, *arguments, **options)
        except StageCmdFailedError as error:
            if _INTERRUPTED.search(str(error)):  # the stage has said so, and DVC would call it a failure
                raise SystemExit(128 + signal.SIGINT) from None
            raise

    return run


@cache
def _titles() -> dict[str, str]:
    try:
        return {stage.name: stage.title for stage in load_graph().stages}
    except (RepriseError, OSError):  # DVC itself says what is wrong
        return {}
