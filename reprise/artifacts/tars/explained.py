"""Explain what the system says when a tar is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reprise.config.errors import ShardError
from reprise.storage.system.machine import FAULTS, machine_error


@contextmanager
def explained_reading(where: str, fix: str) -> Iterator[None]:
    """Turn an OSError of reading a tar into a sentence.

    Args:
        where: the file that is read.
        fix: what to do where the file is the reason.

    Raises:
        ShardError: it cannot be read. MachineError: the machine is the reason.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FAULTS:
            raise machine_error(where, error) from error
        raise ShardError("a shard cannot be read", where=where, found=error.strerror, fix=fix) from error
