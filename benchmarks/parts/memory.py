"""Memory that belongs to a process alone, as the kernel counts it, so that Arrow's buffers and NumPy's count alike."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_KIB = 1024


def private_bytes() -> int:
    """Return the pages of this process that it shares with no other; maps of files count where nobody else has them."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return _KIB * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def in_child(code: str, *arguments: object) -> Any:
    """Run a program in a fresh process of the same environment and folder, and parse the JSON that it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
