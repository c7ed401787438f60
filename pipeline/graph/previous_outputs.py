"""Keep the outputs of the previous run until a stage has made new ones, and put them back if it does not.

DVC removes a stage's outputs before it runs the stage, so a failure would leave the folder without the results that it
had. Inside DVC's process (pipeline/graph/in_dvc/previous.py) they are moved aside instead, and removed once the command
has succeeded. Moves cost no time and no space, so they also serve a run that is interrupted; what was killed with its
parent is put back when the next run starts.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from pipeline.processes.commands import is_running
from reprise.config.errors import printable

PREVIOUS = Path(".reprise/previous")  # <process number of DVC>/<output, percent-encoded>
UNFINISHED = Path(".reprise/unfinished")  # <output, percent-encoded>: what a failed command left in its place
_putting_back = threading.Lock()  # several stages may end at the same moment


def set_aside(output: str, root: Path) -> bool:
    """Move an output aside for this process, if it is there.

    Args:
        output: its path below the project folder.
        root: the project folder.

    Returns:
        False if it must be removed as DVC does: it lies elsewhere, or on another file system than the project folder.
    """
    if not _is_inside(output):
        return False
    aside = root / PREVIOUS / str(os.getpid()) / quote(output, safe="")
    _remove(root / UNFINISHED / aside.name)
    _remove(aside)
    try:
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.rename(root / output, aside)
    except OSError:
        return False
    return True


def forget(outputs: Iterable[str], root: Path) -> None:
    """Remove what this process set aside of outputs that are there again; others wait to be put back."""
    folder = root / PREVIOUS / str(os.getpid())
    for output in outputs:
        if os.path.lexists(root / output):
            _remove(folder / quote(output, safe=""))
    with suppress(OSError):  # others are set aside still
        folder.rmdir()


@contextmanager
def previous_outputs_kept(root: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Put back, however the `with` block ends, what a DVC that has ended set aside and did not replace."""
    try:
        yield
    finally:
        put_back(root, say)


def put_back(root: Path, say: Callable[[str], None]) -> None:
    """Put back what ended processes set aside.

    The command did not succeed, so what it left in the place of an output is unfinished. It is kept in UNFINISHED.

    Args:
        root: the project folder.
        say: prints a line for people.
    """
    with _putting_back:
        restored, unfinished = _put_back(root)
    if restored:
        say(
            f"put back, because the stage did not finish: {printable(', '.join(restored), 2000)}. It comes from a "
            "previous run; `reprise why` says whether it belongs to the present parameters, data and code."
        )
    if unfinished:
        say(f"what the stage had left there is in {UNFINISHED}: {printable(', '.join(unfinished), 2000)}")


def _put_back(root: Path) -> tuple[list[str], list[str]]:
    """Return the outputs that were put back, and those of which something unfinished was kept."""
    restored, unfinished = [], []
    for folder in sorted((root / PREVIOUS).glob("*")):
        if not folder.name.isdigit() or is_running(int(folder.name), "dvc"):
            continue
        for aside in sorted(folder.iterdir()):
            output = unquote(aside.name)
            if not _is_inside(output):
                continue
            target = root / output
            with suppress(OSError):  # DVC's cache has it still; `reprise why` says that it is missing
                if os.path.lexists(target):
                    _remove(root / UNFINISHED / aside.name)
                    (root / UNFINISHED).mkdir(parents=True, exist_ok=True)
                    os.rename(target, root / UNFINISHED / aside.name)
                    unfinished.append(output)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.rename(aside, target)
                restored.append(output)
        with suppress(OSError):
            folder.rmdir()
    return restored, unfinished


def _is_inside(output: str) -> bool:
    path = PurePosixPath(output)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and path.parts[0] != ".reprise"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
