"""Failures of the system that say nothing about a file: they stop the work with a sentence, and cost no image.

Whatever the machine lacks at the moment (open files, memory, a working disk or network) must not decide which images a
manifest holds: the same files give the same manifest everywhere.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
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
