"""A toy graph of the shape of the real one whose stages cost milliseconds, for the logic around DVC."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.processes import environment

_GRAPH = """
stages:
  shard:
    desc: Images
    cmd: python -m stages.work data/shards input.txt
    deps: [input.txt, source.lock.json]
    outs: [data/shards]
  pretrain:
    matrix: {run: "${runs}", seed: "${seeds}"}
    cmd: python -m stages.work data/runs/${item.run.name}/${item.seed} methods/${item.run.method}.py
    deps: [data/shards, "methods/${item.run.method}.py"]
    params: [train, "methods.${item.run.name}"]
    outs: ["data/runs/${item.run.name}/${item.seed}"]
  probe:
    matrix: {run: "${runs}", seed: "${seeds}", group: "${groups}"}
    cmd: >-
      python -m stages.work data/probe/${item.run.name}/${item.seed}/${item.group.name}
      data/runs/${item.run.name}/${item.seed}/x
    deps: ["data/runs/${item.run.name}/${item.seed}"]
    outs: ["data/probe/${item.run.name}/${item.seed}/${item.group.name}"]
  summary:
    cmd: python -m stages.work data/summary params.yaml
    deps: [data/probe]
    params: [runs]
    outs: [data/summary]
    metrics:
      - metrics.json: {cache: false}
"""
_PARAMS = """
seeds: [0]
runs:
  - {name: random, method: random}
  - {name: simclr, method: simclr}
groups: [{name: quality}]
train: {rate: 0.1}
methods: {random: {}, simclr: {temperature: 0.5}}
"""
_WORK = """
import json, os, pathlib, sys, time
out, source = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
pathlib.Path("ran.log").open("a").write(os.environ["DVC_STAGE"] + "\\n")
text = source.read_text()
if "fail" in text:
    sys.exit("error: the toy was told to fail")
if "sleep" in text:
    pathlib.Path("sleeping").write_text(str(os.getpid()))
    time.sleep(600)
out.mkdir(parents=True, exist_ok=True)
(out / "x").write_text(f"{out}: {text}")
if out.name == "summary":
    pathlib.Path("metrics.json").write_text(json.dumps({"simclr": {"knn": {"top1": 0.5}}}))
"""


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
        code = "from pipeline.cli import main; main()"
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


@pytest.fixture(scope="session", autouse=True)
def _import_path(repository: Path) -> Iterator[None]:
    """Processes in a project find its own rooms first (the current folder), then the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(repository))
        yield


@pytest.fixture
def toy(tmp_path: Path, repository: Path) -> Project:
    """A toy project before its first run."""
    return _toy(tmp_path / "toy", repository)


@pytest.fixture(scope="session")
def _toy_that_ran(tmp_path_factory: pytest.TempPathFactory, repository: Path, _import_path: None) -> Project:
    project = _toy(tmp_path_factory.mktemp("template") / "toy", repository)
    project.reprise("repro")
    return project


@pytest.fixture
def built(_toy_that_ran: Project, tmp_path: Path) -> Project:
    """A toy project after its first run: a copy of its own, with the log of what ran still in it."""
    shutil.copytree(_toy_that_ran.root, tmp_path / "toy", symlinks=True)
    return Project(tmp_path / "toy")


def _toy(root: Path, repository: Path) -> Project:
    project = new_project(root)
    project.write("dvc.yaml", _GRAPH)
    project.write("params.yaml", _PARAMS)
    project.write("input.txt", "images")
    project.write("methods/random.py", "1")
    project.write("methods/simclr.py", "2")
    # The toy's own rooms stand beside the real lower floors, which pipeline needs.
    project.write("stages/__init__.py", f"__path__.append({str(repository / 'stages')!r})\n")
    project.write("stages/work.py", _WORK)
    project.write(
        "stages/check.py",
        "import sys\nif 'wrong' in open('params.yaml').read(): sys.exit('error: 1 wrong parameter')\n",
    )
    project.write("stages/ingest/__init__.py", "")
    project.write("stages/ingest/scan.py", "open('source.lock.json', 'w').write('{}')\n")
    return project
