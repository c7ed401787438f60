"""Share the checkpoints of a training by the DVC remote, so that another worker goes on where one was lost.

A checkpoint belongs to a hash of everything that it depends on (reprise/storage/work_folder.py), so a worker that finds
one of other inputs leaves it alone. The leader removes what was shared once it has the result.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.graph.jobs.demands import TRAININGS
from pipeline.graph.machines.transfers import Transfers
from reprise.config.dvc_file import Stage
from reprise.config.errors import RemoteError, printable
from reprise.storage.atomic import atomic_directory

_WORK = Path(".reprise/work/pretrain")  # stages/pretrain names its work after run and seed
_UNDER_WAY = Path(".reprise/machines")
_MEMBER = re.compile(r"([0-9a-f]{16})/([A-Za-z0-9_][A-Za-z0-9_.-]{0,120})")
_STEP = re.compile(r"step-(\d{9})\.safetensors")
_MOST_BYTES = 64 << 30
_MOST_FILES = 64


@contextmanager
def shared(
    stage: Stage, key: str, seconds: float | None, transfers: Transfers, root: Path, say: Callable[[str], None]
) -> Iterator[None]:
    """Begin with the checkpoint that another worker has shared, and send those that are written in the `with` block.

    Args:
        stage: the stage; only trainings share anything.
        key: names the inputs of the stage.
        seconds: between two looks for a new checkpoint; None shares nothing.
        transfers: of this folder.
        root: the project folder.
        say: prints a line.

    Raises:
        RemoteError: the remote cannot be asked for a checkpoint.
    """
    if seconds is None or stage.entry not in TRAININGS:
        yield
        return
    folder = root / _WORK.joinpath(*stage.values)
    _receive(key, transfers, folder, root, say)
    stop, sent = threading.Event(), [_state(folder)]

    def send() -> None:
        state = _state(folder)
        if state and state != sent[0]:
            try:
                _send(key, transfers, folder, root)
                sent[0] = state
            except (RemoteError, OSError) as error:  # the training is worth more than its checkpoint elsewhere
                say(f"a checkpoint was not shared: {printable(error, 500)}")

    def watch() -> None:
        while not stop.wait(seconds):
            send()

    watching = threading.Thread(target=watch, name=f"checkpoints of {stage.title}", daemon=True)
    watching.start()
    try:
        yield
    finally:
        stop.set()
        watching.join()
        send()  # of a stage that was asked to end; one that succeeded has removed its folder


def clear(root: Path) -> None:
    """Remove what a kill has left of archives under way; nobody else may share checkpoints in this folder.

    Args:
        root: the project folder.
    """
    for place in (root / _UNDER_WAY).glob(".partial-*"):
        shutil.rmtree(place, ignore_errors=True)


def _place(root: Path) -> TemporaryDirectory[str]:
    (root / _UNDER_WAY).mkdir(parents=True, exist_ok=True)
    return TemporaryDirectory(dir=root / _UNDER_WAY, prefix=".partial-")


def _newest(folder: Path) -> Path | None:
    """Return the folder of the work that was begun or continued last."""
    try:
        works = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
        return max(works, key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)
    except FileNotFoundError:
        return None


def _files(work: Path) -> list[Path]:
    """Return the files of some work, checkpoints first, and of these only the newest; none without a checkpoint.

    What is written beside a checkpoint is written before it, so a copy of it that is made later is never older.
    """
    files = [path for path in sorted(work.iterdir()) if path.is_file() and _MEMBER.fullmatch(f"{'0' * 16}/{path.name}")]
    steps = [path for path in files if _STEP.fullmatch(path.name)]
    return [steps[-1], *(path for path in files if path not in steps)] if steps else []


def _state(folder: Path) -> tuple[object, ...]:
    work = _newest(folder)
    try:
        return tuple((path.name, path.stat().st_mtime_ns) for path in _files(work)) if work else ()
    except FileNotFoundError:  # the stage has just removed it
        return ()


def _send(key: str, transfers: Transfers, folder: Path, root: Path) -> None:
    work = _newest(folder)
    if work is None or not (files := _files(work)):
        return
    with _place(root) as place:
        archive = Path(place, "work.tar")
        with tarfile.open(archive, "w") as tar:
            for path in files:
                tar.add(path, f"{work.name}/{path.name}", recursive=False, filter=_without_owner)
        transfers.call("send-checkpoint", [key, str(archive.absolute())], threading.Event())


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _receive(key: str, transfers: Transfers, folder: Path, root: Path, say: Callable[[str], None]) -> None:
    with _place(root) as place:
        transfers.call("fetch-checkpoints", [key, str(Path(place).absolute())], threading.Event())
        for archive in sorted(Path(place).glob("*.tar")):
            try:
                work = _unpack(archive, Path(place) / archive.stem)
            except (tarfile.TarError, ValueError, OSError) as error:
                say(f"a checkpoint in the remote is refused: {printable(error, 500)}")
                continue
            mine = folder / work.name
            if not mine.exists() or _step(mine) < _step(work):
                folder.mkdir(parents=True, exist_ok=True)
                with atomic_directory(mine) as new:
                    shutil.copytree(work, new, dirs_exist_ok=True)
                say(f"going on from the checkpoint of another worker{_words(work)}")


def _step(work: Path) -> int:
    return max((int(match[1]) for path in work.iterdir() if (match := _STEP.fullmatch(path.name))), default=-1)


def _words(work: Path) -> str:
    return f", step {_step(work)}" if _step(work) >= 0 else ""


def _unpack(archive: Path, target: Path) -> Path:
    """Write the files of an archive, and return the folder of the work in it.

    Raises:
        ValueError: it holds anything else than a few regular files of one piece of work.
    """
    target.mkdir()
    size, works = 0, set()
    with tarfile.open(archive, "r:") as tar:
        for number, member in enumerate(tar):
            match = _MEMBER.fullmatch(member.name)
            size += member.size
            if not member.isreg() or match is None or number >= _MOST_FILES or size > _MOST_BYTES:
                raise ValueError(f"it holds {member.name!r}, which no stage writes")
            source = tar.extractfile(member)
            (target / match[1]).mkdir(exist_ok=True)
            works.add(match[1])
            with open(target / match[1] / match[2], "wb") as file:
                shutil.copyfileobj(source, file) if source else None
    if len(works) != 1:
        raise ValueError(f"it holds {len(works)} pieces of work instead of one")
    return target / works.pop()
