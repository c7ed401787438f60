"""Let several DVC processes work in one folder at once: whole files to read, and no long waits for a lock.

Each holds DVC's lock whenever it reads or writes what they share, but a stage reads dvc.lock while another DVC writes
it, and a DVC that is killed while it writes leaves half a file to the others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.lock import LockError
from dvc.utils.serialize import YAMLFileCorruptedError
from ruamel.yaml.error import YAMLError

from pipeline.graph.lock_file import LOCK_FILE
from pipeline.graph.lock_text import LockText

_POLL_SECONDS = 0.03  # DVC itself looks twice a second


def replace_whole_file(modify: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `modify_yaml`, with which DVC changes dvc.lock.

    The file is replaced when its new content is complete, and only the entries that change are written anew: DVC's own
    way takes a time that grows with the number of stages, and all others wait for its end.
    """

    @contextmanager
    def modify_copy(path: str, fs: Any = None) -> Iterator[Any]:
        partial = f"{path}.partial-{os.getpid()}"
        text = _text(path)
        try:
            if os.path.basename(path) == LOCK_FILE:
                lock = _lock_text(text, path)
                yield lock.content
                Path(partial).write_text(lock.changed(), encoding="utf-8")
            else:
                if text:
                    Path(partial).write_text(text, encoding="utf-8")
                with modify(partial, fs=fs) as content:
                    yield content
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)

    return modify_copy


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8") if os.path.exists(path) else ""
    except UnicodeDecodeError as error:
        raise YAMLFileCorruptedError(path) from error


def _lock_text(text: str, path: str) -> LockText:
    try:
        return LockText(text)
    except YAMLError as error:
        raise YAMLFileCorruptedError(path) from error


def replace_whole_notes(edit: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `_edit_rwlock`, with which DVC changes its notes of who reads and writes what, in the same way."""

    def edit_copy(folder: str, fs: Any, hardlink: bool) -> Any:
        return edit(folder, _WholeFiles(fs), hardlink)

    return edit_copy


class _WholeFiles:
    """A file system that replaces a file when its new content is complete."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fs, name)

    @contextmanager
    def open(self, path: str, mode: str = "r", **options: Any) -> Iterator[Any]:
        if "w" not in mode:
            with self._fs.open(path, mode, **options) as file:
                yield file
            return
        partial = f"{path}.partial-{os.getpid()}"
        try:
            with self._fs.open(partial, mode, **options) as file:
                yield file
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)


def look_often(lock: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wrap `Lock.lock`: who waits for as long as it takes looks often."""

    def take(self: Any) -> None:
        if not self._wait:
            lock(self)
            return
        while True:
            try:
                self._do_lock()
                return
            except LockError:
                time.sleep(_POLL_SECONDS)

    return take
