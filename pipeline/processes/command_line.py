"""What `ps` and /proc show as the command line of a process that was copied from another one."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from contextlib import suppress

_ARG_START, _ARG_END = 47, 48  # fields of /proc/PID/stat, counted from 0; see proc(5)


def show_command_line(words: Sequence[str]) -> None:
    """Show other words as the command line of this process, as far as the place of the present ones allows.

    Linux reads the command line from the process's own memory. Elsewhere nothing changes.

    Args:
        words: the program and its arguments; none may hold a blank.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, ValueError, IndexError):
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            text = file.read()
        fields = ["", "", *text[text.rindex(")") + 2 :].split()]
        start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
        room = end - start
        if room < 2:
            return
        shown = " ".join(words).encode()[: room - 2]
        # A last byte that is not NUL says that the words end at the first NUL, as setproctitle(3) does.
        ctypes.memmove(start, shown.ljust(room - 1, b"\0") + b" ", room)
