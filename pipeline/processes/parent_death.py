"""Run a command that ends when its parent process ends, for whatever reason.

Usage: `python parent_death.py PARENT COMMAND ARGUMENT...`, where PARENT is a process number.

The parent-death signal survives exec, so the command needs no code for it. A wrapper process is used instead of a hook
between fork and exec, because Prefect's tasks start commands from threads, where such hooks are unsafe. The file uses
the standard library only and does not import this package: started with `-I -S`, it costs about twenty milliseconds.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

if __name__ == "__main__":
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # the parent ended before the signal was requested
        sys.exit(128 + signal.SIGTERM)
    os.execvp(command[0], command)  # noqa: S606
