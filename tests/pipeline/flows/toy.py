"""A toy graph for flows: six stages that do what the text of their input says, and how to ask Prefect about them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.flows.api_client import call
from tests.pipeline.dvc_project import Project, add_toy_stages, new_project, wait_for

_GRAPH = """
stages:
  check:
    cmd: python -m stages.work check params.yaml data/check
    meta: {fingerprints: true}
    deps: [params.yaml]
    outs: [data/check]
  shard:
    cmd: python -m stages.work shard input.txt data/shards
    deps: [data/check, input.txt, source.lock.json]
    outs: [data/shards]
  pretrain:
    matrix: {run: "${runs}"}
    cmd: python -m stages.work ${item.run.name} methods/${item.run.name}.txt data/runs/${item.run.name}/0
    deps: [data/shards, "methods/${item.run.name}.txt"]
    outs: ["data/runs/${item.run.name}/0"]
  summary:
    cmd: python -m stages.work summary params.yaml data/summary
    deps: [data/runs]
    params: [runs, word]
    outs: [data/summary]
    metrics:
      - metrics.json: {cache: false}
  report:
    cmd: python -m stages.work report word.txt data/report
    deps: [data/summary, word.txt]
    outs: [data/report]
"""
_PARAMS = """
seeds: [0]
runs: [{name: left}, {name: right}]
word: fine
summary: {family: knn.top1}
"""
_WORK = """
import json, os, pathlib, signal, subprocess, sys, time
name, source, out = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
pathlib.Path("ran.log").open("a").write(os.environ["DVC_STAGE"] + "\\n")
text = source.read_text() if name != "check" else ""
print(f"this is {name}", flush=True)
if "leak" in text:
    print("\\n".join([*(f"{k}={v}" for k, v in os.environ.items()), *["more than what is kept"] * 50]))
    print(pathlib.Path(".dvc/config.local").read_text(), "https://me:" + os.environ["CANARY_SECRET"] + "@example.org/x")
if "fail" in text:
    sys.exit("error: the toy was told to fail (methods). Found: fail. Write something else.")
if "flaky" in text and not pathlib.Path("tried").exists():
    pathlib.Path("tried").touch()
    sys.exit("error: the archive cannot be downloaded (https://example.org). Found: timed out. Fetch it elsewhere.")
if "sleep" in text and not pathlib.Path("awake").exists():
    from reprise.runtime.entry import prepare_process
    prepare_process()
    signal.signal(signal.SIGINT, lambda number, frame: sys.exit(130))
    if "child" in text:  # in a session of its own, where no signal reaches it
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    pathlib.Path("sleeping").write_text(str(os.getpid()))
    time.sleep(600)
out.mkdir(parents=True, exist_ok=True)
(out / "x").write_text(f"{out}: {text}")
if name == "summary":
    runs = [p.parent.name for p in sorted(pathlib.Path("data/runs").glob("*/0"))]
    metrics = {run: {"knn": {"top1": len((pathlib.Path("data/runs") / run / "0/x").read_text()) / 100}} for run in runs}
    pathlib.Path("metrics.json").write_text(json.dumps(metrics))
    rows = [f"{run},0,knn,top1_val,{metrics[run]['knn']['top1']},,,10" for run in runs]
    (out / "table.csv").write_text("\\n".join(["run,seed,probe,metric,value,low,high,n", *rows, ""]))
"""
_SCAN = """
import pathlib, sys
text = pathlib.Path("source").read_text()
if "broken" in text:
    sys.exit("error: the toy's source is broken")
pathlib.Path("source.lock.json").write_text(text)
"""
_DEPLOYMENTS = """
name: reprise
pull:
  - prefect.deployments.steps.set_working_directory: {{directory: "{{{{ $PWD }}}}"}}
deployments:
  - name: {name}
    entrypoint: pipeline/flows/entrypoints.py:reproduce
    parameters: {{retry_delay_seconds: 0}}
    work_pool: {{name: reprise}}
    concurrency_limit: {{limit: 1, collision_strategy: CANCEL_NEW}}
    schedules: {schedules}
"""


def toy_project(root: Path, repository: Path) -> Project:
    """The toy before its first run, named after its folder."""
    project = new_project(root)
    project.write("dvc.yaml", _GRAPH)
    project.write("params.yaml", _PARAMS)
    project.write("input.txt", "images")
    project.write("word.txt", "a report")
    project.write("methods/left.txt", "1")
    project.write("methods/right.txt", "2")
    add_toy_stages(project, repository, _WORK, _SCAN)
    project.write("source", "{}")
    (root / "pipeline").symlink_to(repository / "pipeline", target_is_directory=True)
    deploy_as(project, root.name)
    return project


def deploy_as(project: Project, name: str, schedules: str = "[]") -> None:
    """Write prefect.yaml with one deployment of `reproduce`."""
    project.write("prefect.yaml", _DEPLOYMENTS.format(name=name, schedules=schedules))


@dataclass(frozen=True)
class Prefect:
    """The session's server."""

    address: str

    def deployment(self, name: str) -> dict[str, Any]:
        return call(self.address, "GET", f"/deployments/name/reproduce/{name}")

    def deploy(self, project: Project, **parameters: Any) -> None:
        """Register what `reprise flows deploy` would, without its seconds; named after the project's folder."""
        flow = call(self.address, "POST", "/flows/", {"name": "reproduce"})
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(project.root.resolve())}}
        deployment = {
            "name": project.root.name,
            "flow_id": flow["id"],
            "entrypoint": "pipeline/flows/entrypoints.py:reproduce",
            "pull_steps": [step],
            "work_pool_name": "reprise",
            "parameters": {"retry_delay_seconds": 0, **parameters},
            "concurrency_limit": 1,
            "concurrency_options": {"collision_strategy": "CANCEL_NEW"},
        }
        call(self.address, "POST", "/deployments/", deployment)

    def start(self, name: str, **more: Any) -> str:
        """Create a run of a deployment; its id."""
        made = call(self.address, "POST", f"/deployments/{self.deployment(name)['id']}/create_flow_run", more)
        return str(made["id"])

    def run(self, run: str) -> dict[str, Any]:
        return call(self.address, "GET", f"/flow_runs/{run}")

    def runs_of(self, name: str) -> list[dict[str, Any]]:
        """Runs of a deployment that have begun, oldest first."""
        body = {
            "deployments": {"id": {"any_": [self.deployment(name)["id"]]}},
            "flow_runs": {"start_time": {"is_null_": False}},
            "sort": "START_TIME_ASC",
        }
        return call(self.address, "POST", "/flow_runs/filter", body)

    def planned(self, name: str) -> list[dict[str, Any]]:
        """Runs that a deployment's schedule has written down in advance."""
        body = {
            "deployments": {"id": {"any_": [self.deployment(name)["id"]]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        }
        return call(self.address, "POST", "/flow_runs/filter", body)

    def run_of_command(self, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
        """Return the run of a finished `reprise flows run` command, by the name that it logged."""
        named = re.search(r"Beginning flow run '([\w-]+)'", done.stdout + done.stderr)
        assert named, done
        (run,) = call(self.address, "POST", "/flow_runs/filter", {"flow_runs": {"name": {"any_": [named[1]]}}})
        return run

    def tasks(self, run: str) -> dict[str, tuple[str, str]]:
        """Task run name -> (state's name, its message); the server writes them down a moment late."""
        body = {"flow_runs": {"id": {"any_": [run]}}, "limit": 200}
        found = call(self.address, "POST", "/task_runs/filter", body)
        return {task["name"]: (task["state"]["name"], task["state"]["message"] or "") for task in found}

    def logs(self, run: str) -> list[str]:
        body = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        return [line["message"] for line in call(self.address, "POST", "/logs/filter", body)]

    def artifacts(self, run: str) -> dict[str, str]:
        body = {"flow_runs": {"id": {"any_": [run]}}, "limit": 200}
        return {a["key"]: a["data"] for a in call(self.address, "POST", "/artifacts/filter", body)}

    def await_state(self, run: str, *types: str, seconds: float = 200.0) -> dict[str, Any]:
        return wait_for(lambda: next((r for r in [self.run(run)] if r["state_type"] in types), None), seconds)

    def await_tasks(self, run: str, names: Iterable[str]) -> dict[str, tuple[str, str]]:
        """The tasks of a run, once those named have ended."""
        ends = ("Cached", "Ran", "Restored", "Failed", "Skipped", "Completed", "Transient", "Crashed", "Cancelled")

        def ended() -> dict[str, tuple[str, str]] | None:
            tasks = self.tasks(run)
            return tasks if all(tasks.get(name, ("",))[0] in ends for name in names) else None

        return wait_for(ended, 90)
