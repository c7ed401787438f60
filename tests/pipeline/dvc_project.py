"""A DVC project under git in a folder of its own, for tests to run commands in."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.processes.commands import environment

REPRISE = (sys.executable, "-c", "from pipeline.cli.main import main; main()")  # the command `reprise`
_CHECK = """\
import sys
if "wrong" in open("params.yaml").read():
    print("error: 1 wrong parameter", file=sys.stderr)
    sys.exit(2)
"""
_SCAN = "open('source.lock.json', 'w').write('{}')\n"


@dataclass(frozen=True)
class Project:
    """A DVC project in a folder of its own."""

    root: Path

    def write(self, name: str, text: str) -> None:
        """Write a file, and create its folder."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        """Replace text in a file, which must hold it."""
        text = (self.root / name).read_text(encoding="utf-8")
        assert old in text, f"{name} does not hold {old!r}"
        self.write(name, text.replace(old, new))

    def call(self, *command: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project, with more environment variables; with `check` it must succeed."""
        done = subprocess.run(
            command, cwd=self.root, env={**environment(), **variables}, capture_output=True, text=True, timeout=570
        )
        assert not check or done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
        return done

    def dvc(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run DVC."""
        return self.call(sys.executable, "-m", "dvc", *arguments, check=check)

    def reprise(self, *arguments: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `reprise`."""
        return self.call(*REPRISE, *arguments, check=check, **variables)

    def commit(self, message: str = "a change") -> None:
        """Commit everything."""
        self.call("git", "add", "--all")
        self.call("git", "commit", "--quiet", "--allow-empty", "--message", message)

    def ran(self) -> list[str]:
        """Return the stages whose command ran since the last call."""
        path = self.root / "ran.log"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return sorted(line.rsplit(":", 1)[-1] for line in lines)

    def lock(self) -> bytes:
        """Return the content of dvc.lock."""
        return (self.root / "dvc.lock").read_bytes()


def new_project(root: Path) -> Project:
    """Create an empty DVC project under git."""
    project = Project(root)
    project.write(
        ".dvc/config", '[core]\n    analytics = false\n    check_update = false\n[cache]\n    type = "reflink,copy"\n'
    )
    project.write(".dvc/.gitignore", "/config.local\n/tmp\n/cache\n")
    project.write(".gitignore", "/.reprise/\n/ran.log\n__pycache__/\n")
    project.write(".dvcignore", "__pycache__\n")
    project.write("data/.gitignore", "*\n!.gitignore\n")
    project.call("git", "init", "--quiet", "--initial-branch", "main")
    return project


def add_toy_stages(project: Project, repository: Path, work: str, scan: str = _SCAN) -> None:
    """Write a package `stages` with the code of a toy graph.

    Its modules come before those of the real package, which `pipeline` still finds in the repository.

    Args:
        project: the project.
        repository: the folder of the real packages.
        work: code of `stages.work`, the command of every stage.
        scan: code of `stages.ingest.scan`.
    """
    project.write("stages/__init__.py", f"__path__.append({str(repository / 'stages')!r})\n")
    shutil.copy(repository / "stages" / "run.py", project.root / "stages")
    project.write("stages/work.py", work)
    project.write("stages/check.py", _CHECK)
    project.write("stages/ingest/__init__.py", "")
    project.write("stages/ingest/scan.py", scan)


def wait_for(condition: Callable[[], Any], seconds: float = 120.0, interval: float = 0.1) -> Any:
    """Call a condition until it is true, and return its value.

    Raises:
        TimeoutError: the condition did not become true in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(interval)
    raise TimeoutError(f"the condition did not become true within {seconds} s")
