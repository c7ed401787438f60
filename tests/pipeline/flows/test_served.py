"""Flows on a real server with a real worker: schedules, cancelling, kills, one at a time, secrets."""

from __future__ import annotations

import fcntl
import http.server
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO

import psutil
import pytest

from pipeline.flows import dead_runs
from pipeline.flows.api_client import call
from pipeline.flows.serving import credentials
from tests.faults.killing import family, held_locks, start
from tests.pipeline.dvc_project import REPRISE, Project, wait_for
from tests.pipeline.flows.toy import Prefect, deploy_as

pytestmark = pytest.mark.xdist_group("flows")  # one server for all

STAGES = ("check", "shard", "pretrain left", "pretrain right", "summary", "report")
EVERYTHING = ["check", "pretrain@run0", "pretrain@run1", "report", "shard", "summary"]
LATER = "2099-01-01T00:00:00+00:00"


def outcomes(prefect: Prefect, run: str) -> dict[str, str]:
    return {name: state for name, (state, _) in prefect.await_tasks(run, STAGES).items()}


def asleep(project: Project) -> psutil.Process:
    """The toy's stage that sleeps, once it does."""
    path = project.root / "sleeping"
    return psutil.Process(int(wait_for(lambda: path.exists() and path.read_text(), 200)))


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def slots(prefect: Prefect, name: str) -> int:
    return int(prefect.deployment(name)["global_concurrency_limit"]["active_slots"])


def test_a_schedule_fires_and_the_second_run_finds_everything_cached(prefect: Prefect, toy: Project) -> None:
    name = toy.root.name
    deploy_as(toy, name, "[{interval: 12, timezone: Europe/Berlin}]")
    toy.reprise("flows", "deploy")
    first, second = wait_for(
        lambda: len(done := [r for r in prefect.runs_of(name) if r["state_type"] == "COMPLETED"]) > 1 and done[:2], 300
    )
    deployment = f"/deployments/{prefect.deployment(name)['id']}"
    call(prefect.address, "POST", f"{deployment}/pause_deployment")
    assert prefect.planned(name) == []
    call(prefect.address, "POST", f"{deployment}/resume_deployment")
    assert wait_for(lambda: prefect.planned(name))
    call(prefect.address, "POST", f"{deployment}/pause_deployment")
    assert first["auto_scheduled"]
    assert second["auto_scheduled"]
    assert outcomes(prefect, first["id"]) == {"prepare": "Completed", **dict.fromkeys(STAGES, "Ran")}
    assert outcomes(prefect, second["id"]) == {"prepare": "Completed", **dict.fromkeys(STAGES, "Cached")}
    assert toy.ran() == EVERYTHING
    assert "6 ran in" in first["state"]["message"]
    assert "6 cached in" in second["state"]["message"]
    _, said = prefect.tasks(first["id"])["pretrain left"]
    assert "it has no entry in dvc.lock" in said
    logs = prefect.logs(first["id"])
    assert "this is left" in logs
    assert not [line for line in logs if "git add" in line or "autostage" in line or not line.strip()]
    artifacts = prefect.artifacts(second["id"])
    assert "No metric changed" in artifacts["difference"]
    assert "knn.top1" in artifacts["metrics"]
    assert "pretrain left | cached" in artifacts["lineage"]
    for words in ("Nothing since the run that ended on ", "(Europe/Berlin)", "No metric changed.", "6 cached in"):
        assert words in artifacts["message"].replace("\\", "")
    assert "There is no earlier run" in prefect.artifacts(first["id"])["message"]


@pytest.mark.slow
def test_the_message_arrives_through_a_block_of_the_server(prefect: Prefect, toy: Project) -> None:
    arrived: queue.Queue[dict[str, str]] = queue.Queue()

    class Service(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arrived.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (named by the base class)
            pass

    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=service.serve_forever, args=(0.1,), daemon=True).start()
    address = f"json://127.0.0.1:{service.server_port}/"
    save = f"from prefect.blocks.notifications import SlackWebhook; SlackWebhook(url={address!r}).save('team')"
    toy.call(sys.executable, "-c", save)
    prefect.deploy(toy, notify=["slack-webhook/team"])
    run = prefect.start(toy.root.name)
    prefect.await_state(run, "COMPLETED")
    told = arrived.get(timeout=60)
    service.shutdown()
    service.server_close()
    assert told["title"] == "Reprise: the graph: completed"
    assert "6 ran in" in told["message"]
    assert prefect.await_tasks(run, ["notify slack-webhook/team"])["notify slack-webhook/team"][0] == "Completed"
    unknown = prefect.start(toy.root.name, parameters={"notify": ["slack-webhook/unknown"]})
    state = prefect.await_state(unknown, "FAILED", "COMPLETED")["state"]
    assert state["message"].startswith(
        "there is no such block on the Prefect server (notify). Found: slack-webhook/unkn"
    )


@pytest.mark.slow
def test_deploying_again_changes_nothing(prefect: Prefect, toy: Project) -> None:
    name = toy.root.name
    deploy_as(toy, name, '[{cron: "0 2 * * *", timezone: Europe/Berlin, slug: night}]')
    toy.reprise("flows", "deploy")
    before = prefect.deployment(name)
    toy.reprise("flows", "deploy")
    after = prefect.deployment(name)
    assert after["id"] == before["id"]
    assert [s["schedule"] for s in after["schedules"]] == [s["schedule"] for s in before["schedules"]]
    assert after["pull_steps"] == [
        {"prefect.deployments.steps.set_working_directory": {"directory": str(toy.root.resolve())}}
    ]


def test_a_failed_stage_fails_with_its_own_words_and_leaves_the_others_results(prefect: Prefect, toy: Project) -> None:
    toy.write("methods/left.txt", "fail")
    done = toy.reprise("flows", "run", "reproduce", check=False)
    assert done.returncode == 1
    run = prefect.run_of_command(done)
    tasks = prefect.await_tasks(run["id"], STAGES)
    message = "the toy was told to fail (methods). Found: fail. Write something else."
    assert tasks["pretrain left"] == ("Failed", message)
    assert f"pretrain left: {message}" in prefect.artifacts(run["id"])["message"].replace("\\", "")
    assert tasks["pretrain right"][0] == "Ran"
    for skipped in ("summary", "report"):
        assert tasks[skipped] == ("Skipped", "not run because pretrain left failed")
    assert run["state_type"] == "FAILED"
    assert f"pretrain left: {message}" in run["state"]["message"]
    assert toy.ran().count("pretrain@run0") == 1  # wrong input is not tried again
    assert (toy.root / "data/runs/right/0/x").exists()

    toy.write("methods/left.txt", "3")
    again = toy.reprise("flows", "run", "reproduce")
    assert outcomes(prefect, prefect.run_of_command(again)["id"])["pretrain right"] == "Cached"
    assert toy.ran() == ["pretrain@run0", "report", "summary"]


@pytest.mark.slow
def test_what_may_pass_is_tried_again_and_secrets_stay_out(
    prefect: Prefect, toy: Project, monkeypatch: pytest.MonkeyPatch, serving: tuple[Project, object]
) -> None:
    """A canary in the environment (from a Secret block), in DVC's settings and in an address, printed by a stage."""
    canary, credential = "canary-7f3a9b21", "canary-55e0c1d8"
    toy.write(
        ".dvc/config.local", f"['remote \"store\"']\n    url = s3://bucket/x\n    secret_access_key = {credential}\n"
    )
    toy.write("input.txt", "flaky leak")
    toy.write("methods/left.txt", "leak fail")
    block = _secret_block(prefect, canary)
    prefect.deploy(toy)
    run = prefect.start(
        toy.root.name, job_variables={"env": {"CANARY_SECRET": f"{{{{ prefect.blocks.secret.{block} }}}}"}}
    )
    ended = prefect.await_state(run, "FAILED", "COMPLETED", "CRASHED")
    tasks = prefect.await_tasks(run, STAGES)
    assert tasks["shard"][0] == "Ran", "\n".join([*tasks["shard"], *prefect.logs(run)])  # text: pytest shortens no text
    assert toy.ran().count("shard") == 2
    reported = "\n".join([*prefect.logs(run), str(ended), str(tasks), str(prefect.artifacts(run))])
    assert "CANARY_SECRET=***" in reported
    assert "Traceback" not in reported
    assert "https://***@example.org/x" in reported
    password = credentials.read_secret(serving[0].root / credentials.PASSWORD)
    assert f"{credentials.CLIENT_VARIABLE}=***" in reported
    for secret in (canary, credential, password):
        assert secret not in reported
        for path in (serving[0].root / ".reprise/prefect").glob("*.log"):
            assert secret not in path.read_text(errors="replace")
        for path in [*toy.root.glob("data/**/*"), *toy.root.glob(".reprise/**/*"), toy.root / "dvc.lock"]:
            assert not path.is_file() or secret not in path.read_text(errors="replace"), path


@pytest.mark.slow
def test_cancelling_ends_the_stage_and_its_children(prefect: Prefect, toy: Project) -> None:
    toy.write("methods/left.txt", "sleep, with a child")
    prefect.deploy(toy, targets=["pretrain/left"])
    run = prefect.start(toy.root.name)
    sleeper = asleep(toy)
    (child,) = sleeper.children()
    call(prefect.address, "POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    assert prefect.await_state(run, "CANCELLED", "CRASHED", "FAILED")["state_type"] == "CANCELLED"
    wait_for(lambda: has_ended(sleeper) and has_ended(child) and not family(toy.root), 120)
    assert held_locks(toy.root) == []
    assert wait_for(lambda: slots(prefect, toy.root.name) == 0, 120)


@pytest.mark.parametrize("victim", [pytest.param("flow", marks=pytest.mark.slow), "worker"])
@pytest.mark.slow
def test_sigkill_leaves_no_orphan_and_the_run_is_closed(prefect: Prefect, toy: Project, victim: str) -> None:
    toy.write("methods/left.txt", "sleep")
    prefect.deploy(toy, targets=["pretrain/left"])
    run = prefect.start(toy.root.name)
    sleeper = asleep(toy)
    (engine,) = [
        p for p in sleeper.parents() if "prefect.flow_engine" in p.cmdline() or "prefect.engine" in p.cmdline()
    ]
    worker = engine.parent()
    assert worker is not None
    assert "worker" in worker.cmdline()
    (engine if victim == "flow" else worker).kill()
    wait_for(lambda: has_ended(sleeper) and has_ended(engine), 120)
    wait_for(lambda: not family(toy.root), 120)
    assert held_locks(toy.root) == []
    toy.write("awake", "")
    dead_runs.close_dead_runs(prefect.address, toy.root)
    closed = prefect.await_state(run, "CRASHED")
    assert closed["state"]["message"]
    assert wait_for(lambda: slots(prefect, toy.root.name) == 0, 120)
    again = prefect.start(toy.root.name)  # the worker that was killed has been started anew
    assert prefect.await_state(again, "COMPLETED", "FAILED", "CRASHED", "CANCELLED")["state_type"] == "COMPLETED"
    assert list((toy.root / ".reprise/flows/runs").glob(f"{run}.json")) == []


def test_a_run_that_never_started_is_closed_and_frees_its_slot(prefect: Prefect, toy: Project) -> None:
    prefect.deploy(toy)
    run = prefect.start(toy.root.name, state={"type": "SCHEDULED", "state_details": {"scheduled_time": LATER}})
    pending = {"state": {"type": "PENDING", "name": "Submitting"}}
    assert call(prefect.address, "POST", f"/flow_runs/{run}/set_state", pending)["status"] == "ACCEPT"
    assert slots(prefect, toy.root.name) == 1
    assert dead_runs.close_dead_runs(prefect.address, toy.root) == []  # it may yet start
    elsewhere = toy.root / "methods"
    assert dead_runs.close_dead_runs(prefect.address, elsewhere, stuck_seconds=0) == []  # another folder's business
    output = toy.reprise("flows", "close-dead-runs", "--stuck-seconds", "0").stdout
    assert "which was Submitting: it has reported nothing for" in output
    closed = prefect.run(run)
    assert closed["state_type"] == "CRASHED"
    assert closed["state"]["message"].startswith("Closed by Reprise: it has reported nothing for")
    assert slots(prefect, toy.root.name) == 0


@pytest.mark.slow
def test_one_run_makes_up_for_those_that_were_missed(prefect: Prefect, toy: Project) -> None:
    """As after a night without a server: three runs are overdue when the worker looks."""
    prefect.deploy(toy, targets=["shard"])
    overdue = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2026-01-01T00:00:00+00:00"}}
    runs = [prefect.start(toy.root.name, state=overdue) for _ in range(3)]
    ended = [prefect.await_state(run, "COMPLETED", "CANCELLED", "FAILED", "CRASHED") for run in runs]
    assert sorted(run["state_type"] for run in ended) == ["CANCELLED", "CANCELLED", "COMPLETED"]
    assert toy.ran() == ["check", "shard"]


@pytest.fixture
def held_lock(toy: Project) -> Iterator[IO[str]]:
    """The lock of the toy's folder, held by "process 1"."""
    path = toy.root / ".reprise/repro.lock"
    path.parent.mkdir()
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("process 1")
        lock.flush()
        yield lock


def test_one_run_at_a_time_the_second_is_dropped(prefect: Prefect, toy: Project, held_lock: IO[str]) -> None:
    dropped = toy.reprise("flows", "run", "reproduce", "--drop", check=False)
    assert dropped.returncode == 4
    assert "reproduce: Dropped: another run works in this folder: process 1" in dropped.stderr
    assert toy.ran() == []


@pytest.mark.slow  # that a second run waits for the lock is also seen in tests/pipeline/graph, without Prefect
def test_one_run_at_a_time_the_second_waits(prefect: Prefect, toy: Project, held_lock: IO[str]) -> None:
    log = toy.root.with_name("log.txt")
    waiting = start(toy.root, [*REPRISE, "flows", "run", "reproduce", "shard"], log)
    wait_for(lambda: "waiting for another run in this folder: process 1" in log.read_text(), 200)
    assert toy.ran() == []
    fcntl.flock(held_lock, fcntl.LOCK_UN)
    assert waiting.wait(timeout=200) == 0
    assert "2 ran in" in log.read_text()


@pytest.mark.slow
def test_two_at_once_do_everything_once(prefect: Prefect, toy: Project) -> None:
    log = toy.root.with_name("log.txt")
    both = [start(toy.root, [*REPRISE, "flows", "run", "reproduce", "pretrain/left"], log) for _ in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    assert toy.ran() == ["check", "pretrain@run0", "shard"]


@pytest.mark.slow
def test_refresh_runs_the_graph_only_when_the_source_changed(prefect: Prefect, toy: Project) -> None:
    toy.reprise("repro")  # one process for all stages, which the flow then finds made
    toy.reprise("flows", "run", "reproduce")
    toy.ran()
    toy.write("methods/left.txt", "another")  # somebody is working on it: not the source's business
    assert (
        "refresh: the source has not changed since the last completed run"
        in toy.reprise("flows", "run", "refresh").stdout
    )
    assert toy.ran() == []
    toy.write("source", '{"digest": "new"}')
    run = prefect.run_of_command(toy.reprise("flows", "run", "refresh"))
    assert "shard" in toy.ran()
    assert outcomes(prefect, run["id"])["pretrain right"] == "Cached"  # shard wrote the same again
    assert run["state_type"] == "COMPLETED"


def test_serving_twice_is_refused(prefect: Prefect, serving: tuple[Project, object]) -> None:
    refused = serving[0].reprise("flows", "serve", check=False)
    assert refused.returncode == 4
    assert f"being served for this folder already (.reprise/prefect). Found: {prefect.address}" in refused.stderr


def test_everything_listens_on_this_machine_only(serving: tuple[Project, subprocess.Popen[bytes]]) -> None:
    processes = [psutil.Process(serving[1].pid), *psutil.Process(serving[1].pid).children(recursive=True)]
    listening = [c.laddr.ip for p in processes for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening
    assert set(listening) == {"127.0.0.1"}


def _secret_block(prefect: Prefect, value: str) -> str:
    """A Secret block on the server; its name."""
    (block_type,) = [t for t in call(prefect.address, "POST", "/block_types/filter", {}) if t["slug"] == "secret"]
    schemas = {"block_schemas": {"block_type_id": {"any_": [block_type["id"]]}}}
    schema = call(prefect.address, "POST", "/block_schemas/filter", schemas)[0]
    name = f"canary-{time.monotonic_ns()}"
    document = {
        "name": name,
        "data": {"value": value},
        "block_type_id": block_type["id"],
        "block_schema_id": schema["id"],
    }
    call(prefect.address, "POST", "/block_documents/", document)
    return name


def test_parameters_cannot_reach_a_shell(prefect: Prefect, toy: Project) -> None:
    marker = toy.root / "owned"
    done = toy.reprise("flows", "run", "reproduce", f"pretrain; touch {marker}", "$(touch owned)", check=False)
    assert done.returncode == 1
    assert "no stage is called" in done.stderr
    assert not marker.exists()
