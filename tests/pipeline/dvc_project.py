"""A DVC project under git in a folder of its own, for tests to run commands in."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.processes.commands import environment


@dataclass(frozen=True)
class Project:
    """A DVC project in a folder of its own."""

    root: Path

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text(encoding="utf-8")
        assert old in text, f"{name} does not hold {old!r}"
        self.write(name, text.replace(old, new))

    def call(self, *command: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.root, env={**environment(), **variables}, capture_output=True, text=True, timeout=570
        )
        assert not check or done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
        return done

    def dvc(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.call(sys.executable, "-m", "dvc", *arguments, check=check)

    def reprise(self, *arguments: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        code = "from pipeline.cli.main import main; main()"
        return self.call(sys.executable, "-c", code, *arguments, check=check, **variables)

    def commit(self, message: str = "a change") -> None:
        self.call("git", "add", "--all")
        self.call("git", "commit", "--quiet", "--allow-empty", "--message", message)

    def ran(self) -> list[str]:
        """Stages whose command ran since the last call of this."""
        path = self.root / "ran.log"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return sorted(line.rsplit(":", 1)[-1] for line in lines)

    def lock(self) -> bytes:
        return (self.root / "dvc.lock").read_bytes()


def new_project(root: Path) -> Project:
    """An empty DVC project under git."""
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
