"""Say in a file what this process does and how far it is, for `reprise status`.

`.reprise/running/<process>.json` is written when the work begins, again every two seconds from a thread of its own, and
removed at the end. Nothing waits for it and nothing depends on it: whatever goes wrong with it is passed over, and no
output knows of it. A killed process leaves its file, which a reader tells by the start of the process
(`birth_of`), and which the next process to announce itself here removes.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from reprise.storage.content_hashes import IrregularFile, read_regular

FOLDER = Path(".reprise/running")
EVERY_SECONDS = 2.0
_PATIENCE_SECONDS, _LINE_SECONDS = 2.0, 30.0  # before a line about uncounted work, and between two
MOST_BYTES = 1 << 20  # of a file; a graph of thousands of stages needs less
Kind = Literal["command", "graph", "stage"]


class Work(Protocol):
    """What counts its work, such as a `Progress`."""

    def state(self) -> dict[str, Any]:
        """Return label, done, total, unit, rate and figures, as JSON has them."""

    def tick(self) -> None:
        """Print a line if one is due."""


class Announcement:
    """The file of this process in one folder; `announced` makes one.

    Attributes:
        path: the file.
        step: which part of how many is under way, set by `report_step`.
    """

    def __init__(self, title: str, kind: Kind, folder: Path) -> None:
        self.path = folder.absolute() / f"{os.getpid()}.json"
        self.step: dict[str, Any] | None = None
        self._began = time.monotonic()
        self._facts = {
            "process": os.getpid(),
            "birth": birth_of(os.getpid()),
            "machine": machine_id(),
            "host": platform.node(),
            "kind": kind,
            "title": title,
            "stage": os.environ.get("DVC_STAGE", "").rpartition(":")[2] if kind == "stage" else "",
            "since": time.time(),
        }

    def write(self) -> None:
        """Write the file under another name and rename it; it is not flushed to disk, because it tells of now only."""
        works = [work.state() for work in list(_works)]
        text = json.dumps(self._facts | {"step": self.step, "work": works}, default=str)
        partial = self.path.with_name(f".partial-{self.path.name}")
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(text, encoding="utf-8", errors="backslashreplace")
            os.replace(partial, self.path)

    def say(self) -> None:
        """Print on stderr that a stage is at work."""
        if self._facts["kind"] == "stage" and os.environ.get("REPRISE_QUIET") != "1":
            with suppress(OSError, ValueError):
                seconds = time.monotonic() - self._began
                print(f"{self._facts['title']}: at work for {seconds:.0f} s", file=sys.stderr, flush=True)

    def remove(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


_works: list[Work] = []  # what counts at the moment, the outermost first
_announcements: list[Announcement] = []
_changing = threading.Lock()  # so that the thread writes no file that has just been removed
_thread: list[threading.Thread] = []
_leaving = threading.Event()
_due = [0.0]  # when a line is due that tells of work which no loop counts


@contextmanager
def announced(title: str, kind: Kind, folder: Path = FOLDER) -> Iterator[Announcement]:
    """Announce inside the `with` block what this process does.

    Args:
        title: what is done, for people: "pretrain simclr seed 0".
        kind: "stage", "graph" for what goes through stages, or "command" for what starts these.
        folder: of the announcements of a project.
    """
    announcement = Announcement(title, kind, folder)
    _remove_dead(announcement.path.parent)
    try:
        with _changing:
            _due[0] = time.monotonic() + _PATIENCE_SECONDS - 0.1  # the thread looks every two seconds
            _announcements.append(announcement)
            announcement.write()
        _start_writing()
        yield announcement
    finally:
        with _changing:
            with suppress(ValueError):  # a signal may have come before it was added
                _announcements.remove(announcement)
            announcement.remove()


def report_step(
    number: int,
    of: int,
    title: str,
    *,
    unit: str = "stage",
    waiting: Sequence[str] = (),
    ran: Sequence[str] = (),
    beside: Sequence[str] = (),
    at_once: int = 1,
) -> None:
    """Note which part of the announced work begins; without an announcement, nothing happens.

    Args:
        number: counted from 1.
        of: how many there are.
        title: of the part; DVC's name of a stage.
        unit: what is counted.
        waiting: names of the parts that come later.
        ran: names of earlier parts that had something to do.
        beside: names of other parts that are under way at the same time.
        at_once: how many parts may be.
    """
    step = {"number": number, "of": of, "title": title, "unit": unit, "since": time.time()}
    with _changing:
        for announcement in _announcements[-1:]:
            announcement.step = step | {
                "waiting": list(waiting),
                "ran": list(ran),
                "beside": list(beside),
                "at_once": at_once,
            }
            announcement.write()


def begin_work(work: Work) -> None:
    """Let the announcements of this process tell of something that counts."""
    _works.append(work)


def end_work(work: Work) -> None:
    """Tell of it no longer."""
    with suppress(ValueError):
        _works.remove(work)


def _start_writing() -> None:
    """Start the thread that writes; where the system has none left, the file stays as it was at the beginning."""
    if not _thread or not _thread[0].is_alive():
        with suppress(RuntimeError):
            thread = threading.Thread(target=_write_on, name="running", daemon=True)
            thread.start()
            _thread[:] = [thread]


def _write_on() -> None:
    while True:
        time.sleep(EVERY_SECONDS)
        with _changing:
            if not _announcements:
                _thread.clear()
                return
            for announcement in _announcements:
                announcement.write()
        _speak()


def _speak() -> None:
    """Show a sign of life on stderr: of the innermost loop, or of a stage that has worked for a while without one."""
    if _leaving.is_set():
        return
    now = time.monotonic()
    for work in list(_works)[-1:]:
        _due[0] = now + _PATIENCE_SECONDS
        work.tick()
        return
    if now >= _due[0]:
        _due[0] = now + _LINE_SECONDS
        for announcement in _announcements:
            announcement.say()


def fall_silent() -> None:
    """Show no more signs of life: the sentence that ends this process has been printed."""
    _leaving.set()


def withdraw() -> None:
    """Remove the files of this process, which is about to end without taking leave."""
    for announcement in _announcements:
        announcement.remove()


def _remove_dead(folder: Path) -> None:
    """Remove the files of processes of this machine that have ended."""
    with suppress(OSError):
        for path in folder.glob("*.json"):
            with suppress(OSError, ValueError, KeyError, RecursionError, AttributeError, TypeError, IrregularFile):
                note = json.loads(read_regular(path, MOST_BYTES, follow=False))
                if note.get("machine") == machine_id() and birth_of(int(note["process"])) != note.get("birth"):
                    path.unlink()


def machine_id() -> str:
    """Return what tells this machine, since its last start, and this container from others that share the folder."""
    parts = [platform.node()]
    for read in (_boot_id, lambda: os.readlink("/proc/self/ns/pid")):
        with suppress(OSError):
            parts.append(read())
    return " ".join(parts)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def birth_of(pid: int) -> str | None:
    """Return when a process of this machine started, as no later process of its number has it; None if it has ended.

    A process that has ended and waits for its parent (a zombie) has ended.
    """
    if sys.platform == "linux":
        # Ticks since the machine started: unlike the time of day, nobody sets them.
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return None
        return None if fields[0] in (b"Z", b"X") else fields[19].decode("ascii")
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except (psutil.Error, ValueError, OverflowError):
        return None
