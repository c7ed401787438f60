"""A Dask scheduler and workers in clones of a project, as processes of their own on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.processes.commands import environment
from tests.faults.killing import family
from tests.pipeline.dvc_project import REPRISE, Project, wait_for

GRAPH = """
stages:
  shard:
    cmd: python -P stages/run.py stages.work data/shards input.txt
    meta: {local: true}
    deps: [input.txt, source.lock.json]
    outs: [data/shards]
  pretrain:
    matrix: {run: "${runs}", seed: "${seeds}"}
    cmd: python -P stages/run.py stages.work data/runs/${item.run.name}/${item.seed} data/shards/x
    deps: [data/shards]
    params: [train, "methods.${item.run.name}"]
    outs: ["data/runs/${item.run.name}/${item.seed}"]
  probe:
    matrix: {run: "${runs}", seed: "${seeds}"}
    cmd: >-
      python -P stages/run.py stages.work data/probe/${item.run.name}/${item.seed}/features
      data/runs/${item.run.name}/${item.seed}/x
    deps: ["data/runs/${item.run.name}/${item.seed}"]
    outs: ["data/probe/${item.run.name}/${item.seed}/features"]
  summary:
    cmd: python -P stages/run.py stages.work data/summary params.yaml
    meta: {local: true}
    deps: [data/probe]
    params: [runs]
    outs: [data/summary]
    metrics:
      - metrics.json: {cache: false}
"""
PARAMS = """
seeds: [0]
runs:
  - {name: a}
  - {name: b}
train: {rate: 0.1}
methods: {a: {}, b: {}}
"""
# A stage notes where it ran, and works in steps with a checkpoint after each, as trainings do.
WORK = """
import json, os, pathlib, signal, sys, time
from reprise.runtime.entry import prepare_process
from reprise.storage.work_folder import work_folder
prepare_process()
if "TOY_ENDING" in os.environ:
    signal.signal(signal.SIGTERM, lambda *_: (time.sleep(float(os.environ["TOY_ENDING"])), sys.exit(143)))
out, source = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
text = source.read_text() + str(out) + pathlib.Path("params.yaml").read_text().split("train:")[1].split("}")[0]
text += os.environ.get("TOY_ODD", "")
log = pathlib.Path(os.environ["TOY_LOG"])
name = str(out).replace("data/runs", "pretrain").replace("/features", "").replace("data/", "")
with work_folder(name, {"text": text}, []) as folder:
    done = sorted(folder.glob("step-*"))
    begun = int(done[-1].read_text()) if done else 0
    log.open("a").write(json.dumps([os.environ["DVC_STAGE"].split(":")[-1], os.getcwd(), begun]) + "\\n")
    if "runs" in str(out):
        for step in range(begun, int(os.environ.get("TOY_STEPS", "2"))):
            time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
            file = folder / f"step-{step + 1:09d}.safetensors"
            file.with_suffix(".new").write_text(str(step + 1))
            file.with_suffix(".new").replace(file)
            print("step", step + 1, flush=True)
    if pathlib.Path(os.environ.get("TOY_FAIL", "/nowhere")).exists():
        sys.exit("error: the toy was told to fail")
    out.mkdir(parents=True, exist_ok=True)
    (out / "x").write_text(f"{out}: {text}")
if out.name == "summary":
    pathlib.Path("metrics.json").write_text(json.dumps({"a": {"knn": {"top1": 0.5}}}))
"""
REMOTE = """['remote "store"']
    url = {url}
"""


def add_remote(project: Project, url: str, more: str = "") -> None:
    """Give a project a default remote."""
    text = (project.root / ".dvc/config").read_text()
    with_default = text.replace("[core]\n", "[core]\n    remote = store\n")
    project.write(".dvc/config", with_default + REMOTE.format(url=url) + more)


@dataclass
class Machines:
    """A scheduler and its workers."""

    folder: Path
    address: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def worker(self, clone: Project, *options: str, joined: bool = True, **variables: str) -> subprocess.Popen[bytes]:
        """Start a worker in a clone, and wait until it has joined."""
        log = self.folder / f"{clone.root.name}-{len(self.processes)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*REPRISE, "worker", self.address, *options],
                cwd=clone.root,
                env={**environment(), **variables},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        if joined:
            wait_for(lambda: process.poll() is not None or b"computing for" in log.read_bytes())
            assert process.poll() is None, log.read_text()
        return process

    def said(self, clone: Project) -> str:
        """What the workers of a clone have printed."""
        return "".join(log.read_text() for log in sorted(self.folder.glob(f"{clone.root.name}-*.log")))


@contextmanager
def machines(folder: Path, *options: str, **variables: str) -> Iterator[Machines]:
    """A scheduler on a free port of this machine; all ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    found = Machines(folder)
    place = folder / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    with (folder / "scheduler.log").open("wb") as output:
        scheduler = subprocess.Popen(
            [*command, *options, "--no-dashboard", "--scheduler-file", str(place)],
            stdout=output,
            stderr=output,
            env={**os.environ, **variables},
        )
    found.processes.append(scheduler)
    try:
        wait_for(lambda: scheduler.poll() is not None or (place.exists() and place.read_text().strip()))
        found.address = json.loads(place.read_text())["address"]
        yield found
    finally:
        for process in reversed(found.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def clone(project: Project, name: str) -> Project:
    """The project elsewhere, as git holds it: no cache."""
    root = project.root.parent / name
    project.call("git", "clone", "--quiet", str(project.root), str(root))
    return Project(root)


def log(project: Project) -> list[tuple[str, str, int]]:
    """Stages whose command ran, in which folder, and after how many steps of an earlier attempt."""
    path = Path(os.environ["TOY_LOG"])
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [(stage, Path(folder).name, begun) for stage, folder, begun in rows]


def nothing_runs_in(*projects: Project) -> bool:
    """Whether no process of a stage or of DVC is left in these folders."""
    return all(not family(project.root) for project in projects)
