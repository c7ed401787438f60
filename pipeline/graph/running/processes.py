"""Read what runs in a project: what its processes announce (reprise/storage/running.py), and DVC started by hand.

Nothing here takes a lock or waits. A file counts only if its process is the one that wrote it and still lives; of a
process on another machine, or in another container, only the age of the file can tell. Everybody who can write to the
folder can write such files, so their content is checked, bounded and, where it is shown, escaped.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import psutil

from pipeline.graph.workspace import STATE, SWEEPS
from reprise.config.errors import printable
from reprise.config.texts.credentials import hide_credentials
from reprise.storage.content_hashes import IrregularFile, read_regular
from reprise.storage.running import FOLDER, MOST_BYTES, Kind, birth_of, machine_id

_SILENT_SECONDS = 30.0  # a process elsewhere writes every two seconds; after this silence it counts as ended
_MOST_FILES, _MOST_LOOPS = 1000, 8
_LONGEST = 200  # characters of a name
_LARGEST = 1e15
_WORKING_COMMANDS = frozenset({"repro", "fetch", "pull", "push", "checkout", "commit", "add", "gc", "queue-worker"})


@dataclass(frozen=True)
class Part:
    """Which part of how many is under way.

    Attributes:
        number: counted from 1.
        of: how many there are.
        title: of the part; DVC's name of a stage.
        unit: "stage" or "point".
        since: when it began, seconds since the epoch.
        waiting: names of the parts that come later.
        ran: names of earlier parts that had something to do.
        counted: whether the process itself counts; otherwise the order of the graph says it.
        beside: names of other parts that are under way at the same time.
        at_once: how many parts may be.
    """

    number: int
    of: int
    title: str
    unit: str
    since: float
    waiting: tuple[str, ...] = ()
    ran: tuple[str, ...] = ()
    counted: bool = True
    beside: tuple[str, ...] = ()
    at_once: int = 1


@dataclass(frozen=True)
class Counted:
    """How far a loop has come.

    Attributes:
        label: of the loop.
        done: in units.
        total: in units; None where nobody knows.
        unit: what is counted.
        rate: units a second.
        figures: the last values of figures.
        of: the last value of figures that count.
    """

    label: str
    done: int
    total: int | None
    unit: str
    rate: float
    figures: Mapping[str, float] = field(default_factory=dict)
    of: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end at the rate so far; None where it is not known."""
        if self.total is None or self.rate <= 0:
            return None
        return max(0, self.total - self.done) / self.rate


@dataclass(frozen=True)
class Running:
    """A process that works in the project.

    Attributes:
        process: its number.
        kind: "command", "graph" (DVC) or "stage".
        title: what it does.
        since: when it began, seconds since the epoch; None where the file says nothing of use.
        stage: DVC's name of the stage, where DVC started it.
        host: of another machine or container; "" for this one.
        folder: where it works, from the project's folder.
        stopped: whether it is stopped (Ctrl-Z) and could go on.
        parent: the process in the same list that started it, or None.
        part: which part of how many is under way.
        counted: its loops, the outermost first.
    """

    process: int
    kind: str
    title: str
    since: float | None
    stage: str = ""
    host: str = ""
    folder: str = "."
    stopped: bool = False
    parent: int | None = None
    part: Part | None = None
    counted: tuple[Counted, ...] = ()


def what_runs(root: Path = Path()) -> list[Running]:
    """List the other processes that work in a project, by their beginning.

    Args:
        root: the project folder.
    """
    found: dict[tuple[str, int], Running] = {}
    for folder in _folders(root):
        for running in _announced(root, folder):
            known = found.get((running.host, running.process))
            if known is None or known.part is None:  # a sweep announces itself for two folders
                found[running.host, running.process] = running
    for running in _plain_dvc(root):
        found.setdefault(("", running.process), running)
    found.pop(("", os.getpid()), None)
    here = {process for host, process in found if not host}
    listed = [r if r.host else replace(r, parent=_starter(r.process, here)) for r in found.values()]
    return sorted(listed, key=lambda r: (r.since or 0.0, r.process))


def _folders(root: Path) -> Iterator[Path]:
    """Yield the folders of announcements: of the project, of its sweeps and their clones, and of DVC's experiments."""
    prefix = Path()
    top = root.resolve()
    for folder in (top, *top.parents):
        if (folder / ".git").exists():
            prefix = top.relative_to(folder)
            break
    yield root / FOLDER
    yield root / SWEEPS / FOLDER
    for clones, below in ((root / SWEEPS, "tree"), (root / ".dvc/tmp/exps", "")):
        with suppress(OSError):
            yield from sorted(clone / below / prefix / FOLDER for clone in clones.iterdir())


def _announced(root: Path, folder: Path) -> Iterator[Running]:
    try:
        names = [path for path in folder.iterdir() if path.suffix == ".json" and not path.name.startswith(".")]
    except OSError:
        return
    for path in sorted(names)[:_MOST_FILES]:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, IrregularFile):
            note = json.loads(read_regular(path, MOST_BYTES, follow=False), parse_constant=lambda name: None)
            process = _whole(note["process"])
            host = "" if note["machine"] == machine_id() else _text(note["host"]) or "another machine"
            if _lives(note, process, path, host):
                yield _parsed(note, process, host, folder.parent.parent.relative_to(root).as_posix())


def _lives(note: Mapping[str, Any], process: int, path: Path, host: str) -> bool:
    if host:
        return abs(time.time() - path.stat().st_mtime) < _SILENT_SECONDS
    return note["birth"] is not None and birth_of(process) == note["birth"]


def _parsed(note: Mapping[str, Any], process: int, host: str, folder: str) -> Running:
    part = None
    if isinstance(step := note.get("step"), dict):
        part = Part(
            number=_whole(step["number"]),
            of=_whole(step["of"]),
            title=_text(step["title"]),
            unit=_text(step["unit"]),
            since=_number(step["since"]) or 0.0,
            waiting=tuple(map(_text, step["waiting"])),
            ran=tuple(map(_text, step["ran"])),
            beside=tuple(map(_text, step.get("beside", ()))),
            at_once=max(1, _whole(step.get("at_once", 1))),
        )
    return Running(
        process=process,
        kind=note["kind"] if note["kind"] in get_args(Kind) else "command",
        title=_text(note["title"]),
        since=_number(note["since"]),
        stage=_text(note.get("stage", "")),
        host=host,
        folder=folder,
        stopped=not host and _is_stopped(process),
        part=part,
        counted=tuple(map(_counted, note.get("work", [])[:_MOST_LOOPS])),
    )


def _counted(work: Mapping[str, Any]) -> Counted:
    return Counted(
        label=_text(work["label"]),
        done=_whole(work["done"]),
        total=None if work["total"] is None else _whole(work["total"]),
        unit=_text(work["unit"]),
        rate=_number(work["rate"]) or 0.0,
        figures=_numbers(work.get("figures", {})),
        of=_numbers(work.get("of", {})),
    )


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {_text(name): n for name, value in list(values.items())[:_LONGEST] if (n := _number(value)) is not None}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) and abs(value) <= _LARGEST else None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise ValueError(value)
    return value


def _text(value: Any) -> str:
    """Return a text from outside in one line, escaped."""
    if not isinstance(value, str):
        raise TypeError(value)
    return printable(hide_credentials(value), _LONGEST).replace("\n", "\\n")


def _is_stopped(process: int) -> bool:
    with suppress(psutil.Error):
        return bool(psutil.Process(process).status() == psutil.STATUS_STOPPED)
    return False


def _starter(process: int, others: set[int]) -> int | None:
    """Return the nearest of the other processes that started this one, directly or not."""
    with suppress(psutil.Error):
        return next((parent.pid for parent in psutil.Process(process).parents() if parent.pid in others), None)
    return None


def _plain_dvc(root: Path) -> Iterator[Running]:
    """Find DVC processes in the project that do not announce themselves, because a person started them."""
    top = root.resolve()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError, ValueError):
            words = process.cmdline()
            place = next((i for i, word in enumerate(words[:5]) if Path(word).stem == "dvc"), None)
            if place is None or (place and "python" not in Path(words[0]).name):
                continue
            arguments = words[place + 1 :]
            if not ({"exp", "run"} <= {*arguments} or _WORKING_COMMANDS & {*arguments}):
                continue
            folder = Path(process.cwd()).resolve()
            if folder == top or (top in folder.parents and STATE.name not in folder.relative_to(top).parts):
                yield Running(
                    process=process.pid,
                    kind="graph",
                    title=_text(f"dvc {shlex.join(arguments)}"),
                    since=process.create_time(),
                    folder=folder.relative_to(top).as_posix(),
                    stopped=process.status() == psutil.STATUS_STOPPED,
                )
