"""Read and write UTF-8 in every locale, and escape what a stream cannot show.

In an ASCII locale (`LC_ALL=C` with PYTHONUTF8=0, or PYTHONIOENCODING=ascii), Python can neither open a file called
`é.png` nor print its name: both would end in a UnicodeEncodeError.
"""

from __future__ import annotations

import io
import os
import sys


def use_utf8() -> None:
    """Let this process use UTF-8 for the names of files, and escape characters that its output cannot hold.

    A process whose locale has another encoding starts itself again in Python's UTF-8 mode, under the same process
    number. So do processes that it starts. Call this before anything else.
    """
    if not sys.flags.utf8_mode and sys.getfilesystemencoding().lower().replace("-", "") != "utf8":
        os.environ["PYTHONUTF8"] = "1"
        sys.stdout.flush()
        option = ["-X", "utf8"] if sys.flags.ignore_environment else []
        os.execv(sys.executable, [sys.executable, *option, *sys.orig_argv[1:]])  # noqa: S606
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def child_encoding(environment: dict[str, str]) -> dict[str, str]:
    """Return the variables that let a child process do the same.

    Args:
        environment: of the child; its PYTHONIOENCODING keeps its encoding if that is a part of UTF-8, since the output
            of children is read as UTF-8.
    """
    encoding = environment.get("PYTHONIOENCODING", "").partition(":")[0].lower().replace("_", "-")
    name = encoding if encoding in ("ascii", "us-ascii", "utf-8", "utf8") else "utf-8"
    return {"PYTHONUTF8": "1", "PYTHONIOENCODING": f"{name}:backslashreplace"}
