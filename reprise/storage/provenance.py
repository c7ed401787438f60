"""Provenance: time, machine, versions and speed of a run.

All of it differs from run to run, so it goes into `.reprise/provenance/` and never into a DVC output: cached outputs
are pure functions of their inputs.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from reprise.config.errors import printable
from reprise.storage.atomic import write_json

FOLDER = Path(".reprise/provenance")
_LIBRARIES = (
    "torch", "timm", "numpy", "pillow", "opencv-python-headless", "albumentations", "pyarrow", "scikit-learn",
)  # fmt: skip
_TOOLS = ("webdataset", "dvc")


def record(name: str, began: float, facts: dict[str, Any] | None = None) -> None:
    """Write `.reprise/provenance/<name>.json`.

    Args:
        name: path below the folder, without suffix ("pretrain/simclr/0").
        began: time.monotonic() at the start of the work, since the wall clock may be set meanwhile.
        facts: further entries, such as images a second.
    """
    seconds = time.monotonic() - began
    write_json(
        FOLDER / f"{name}.json",
        {
            "stage": name,
            "began": datetime.fromtimestamp(time.time() - seconds, UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "machine": machine(),
            "python": platform.python_version(),
            "packages": versions(),
            "revision": revision(),
            **(facts or {}),
        },
    )


def machine() -> str:
    """Describe processor and system, without the host's name."""
    model = platform.processor() or platform.machine()
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{model}, {platform.system()} {platform.machine()}"


def versions() -> dict[str, str]:
    """Return the versions of the packages that a run uses."""
    return _installed(_LIBRARIES + _TOOLS)


def libraries() -> dict[str, str]:
    """Return the versions of the packages that results depend on, and Python's."""
    return {"python": platform.python_version()} | _installed(_LIBRARIES)


def _installed(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def revision() -> str:
    """Return the git commit of the code, with "+changes" if the tree differs; or "unknown", and why."""
    try:
        commit = _git("rev-parse", "HEAD", seconds=10)
        return commit + ("+changes" if _git("status", "--porcelain", "--untracked-files=no", seconds=30) else "")
    except subprocess.CalledProcessError as error:
        text = error.stderr.decode("utf-8", "replace").strip().splitlines()
        return f"unknown ({printable(text[0], 200)})" if text else "unknown"
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({printable(error, 200)})"


def _git(*arguments: str, seconds: float) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, check=True, timeout=seconds)
    return done.stdout.decode("utf-8", "replace").strip()
