"""Run a command that ends when its starter ends, however that happens: `python parent_death.py COMMAND ARGUMENT...`.

The parent-death signal survives exec, so the command itself needs to know nothing. A process of its own is
used instead of a hook between fork and exec because Prefect's tasks start commands from threads. Standard
library only, and no import of this package: it is started with `-I -S` and costs some twenty milliseconds.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

if __name__ == "__main__":
    starter, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != starter:  # it ended before the request took hold
        sys.exit(128 + signal.SIGTERM)
    os.execvp(command[0], command)  # noqa: S606
