"""Explain what the system says when a tar is read."""

from __future__ import annotations

from reprise.config.errors import RepriseError, ShardError
from reprise.storage.system.machine import FAULTS, machine_error


def reading_error(error: OSError, where: str, fix: str) -> RepriseError:
    """Return what to raise for an OSError of reading a tar: a MachineError where the machine is the reason.

    Args:
        error: what the system says.
        where: the file that was read.
        fix: what to do where the file is the reason.
    """
    if error.errno in FAULTS:
        return machine_error(where, error)
    return ShardError("a shard cannot be read", where=where, found=error.strerror, fix=fix)
