"""Which folders and files the kernel makes up: /proc, /sys, /dev and their like hold no data of anybody.

Their files have no length until they are read, some never end, some wait, and some are the memory of the machine. No
image, archive or weights file is read from there.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_TYPES = frozenset(
    [
        "proc",
        "sysfs",
        "devtmpfs",
        "devpts",
        "cgroup",
        "cgroup2",
        "debugfs",
        "tracefs",
        "securityfs",
        "configfs",
        "pstore",
        "bpf",
        "efivarfs",
        "fusectl",
        "mqueue",
        "hugetlbfs",
        "binfmt_misc",
        "rpc_pipefs",
        "selinuxfs",
        "nsfs",
        "autofs",
    ]
)
_FOLDERS = (b"/proc", b"/sys", b"/dev")
_DATA = (b"/dev/shm",)  # memory that holds files of people


def is_pseudo(path: bytes | str | Path, device: int) -> bool:
    """Return whether the kernel makes up what lies at a path.

    Args:
        path: absolute, with links resolved.
        device: `st_dev` of what lies there.
    """
    name = os.fsencode(path)
    if any(_lies_in(name, folder) for folder in _DATA):
        return False
    return device in pseudo_devices() or any(_lies_in(name, folder) for folder in _FOLDERS)


def _lies_in(name: bytes, folder: bytes) -> bool:
    return name == folder or name.startswith(folder + b"/")


@cache
def pseudo_devices() -> frozenset[int]:
    """Return `st_dev` of all mounted file systems of that kind; none where the system has no such list."""
    found = set()
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        before, _, after = line.partition(b" - ")  # id, parent, major:minor, ... - type, source, options
        fields, kind = before.split(), after.partition(b" ")[0].decode("ascii", "replace")
        if len(fields) > 2 and kind in _TYPES:
            major, _, minor = fields[2].partition(b":")
            found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)
