"""Failures of the system that say nothing about a file: they stop the work with a sentence, and cost no image.

Whatever the machine lacks at the moment (open files, memory, a working disk or network) must not decide which images a
manifest holds: the same files give the same manifest everywhere.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from reprise.config.errors import MachineError

Result = TypeVar("Result")

_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_NO_MEMORY = (errno.ENOMEM, errno.ENOBUFS)
_DISK = ("EIO", "EAGAIN", "EBUSY", "ESTALE", "EREMOTEIO", "EUCLEAN", "EBADMSG")
_NETWORK = (
    "ETIMEDOUT",
    "ECONNRESET",
    "ECONNABORTED",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "ENETDOWN",
    "ENETUNREACH",
    "ENOLINK",
)
FAULTS = frozenset(
    (*_NO_DESCRIPTOR, *_NO_MEMORY, *(getattr(errno, name) for name in (*_DISK, *_NETWORK) if hasattr(errno, name)))
)
_WORDS_OF_NO_MEMORY = (  # of torch on a CPU and on a GPU, of C++, of the dynamic loader
    "can't allocate memory",
    "out of memory",
    "bad_alloc",
    "failed to map segment",
    "cannot allocate memory",
)
_PAUSES = (0.05, 0.2, 1.0)  # seconds before the second, third and fourth attempt


def machine_error(where: object, error: OSError) -> MachineError:
    """Make the error for a failure whose `errno` is one of `FAULTS`."""
    if error.errno in _NO_DESCRIPTOR:
        fix = "Raise the limit of open files (`ulimit -n`), or end programs that keep many open."
    elif error.errno in _NO_MEMORY:
        fix = "Free memory, then run again."
    else:
        fix = "Look at the disk or the network share (`dmesg`), then run again; if this file alone is lost, remove it."
    return MachineError(
        "a file cannot be read because of the machine, not of the file", where=where, found=error.strerror, fix=fix
    )


def fault_behind(error: BaseException, path: Path) -> MachineError | None:
    """Return the error to raise where the machine, and not the file, is the reason that a library cannot read it.

    Libraries lose the system's answer: safetensors calls a file missing when this process can open none. So where an
    error has no number, the file is opened once more.

    Args:
        error: what the library raised.
        path: the file.

    Returns:
        None where the file is the reason.
    """
    number = error.errno if isinstance(error, OSError) else None
    if says_no_memory(error):
        number = errno.ENOMEM
    elif number is None:
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as refused:
            number = refused.errno
    if number is None or number not in FAULTS:
        return None
    return machine_error(path, OSError(number, os.strerror(number)))


def says_no_memory(error: BaseException) -> bool:
    """Tell whether an error of any library says that memory ran out; the loader's says it of a library's pages."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError | ImportError) and any(words in str(error) for words in _WORDS_OF_NO_MEMORY)


def patiently(attempt: Callable[[], Result]) -> Result:
    """Call `attempt`, and call it again a little later where the machine was at fault; such a fault may pass.

    Raises:
        MachineError: it lasts.
    """
    for pause in _PAUSES:
        try:
            return attempt()
        except MachineError:
            time.sleep(pause)
    return attempt()
