"""What flows say: no secret, no markup from outside, the stage's own message, and what may be tried again."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.compare.revisions import Figure, Measurements
from pipeline.flows import artifacts, dead_runs, liveness
from pipeline.flows.artifacts import StageLine
from pipeline.processes import markdown
from pipeline.processes.commands import CommandFailed
from pipeline.processes.failure import failure_message, is_transient
from pipeline.processes.redaction import make_redactor
from tests.pipeline.flows.toy import wait_for


def test_secrets_are_hidden_wherever_they_come_from(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config.local").write_text("['remote \"s\"']\n    password = hunter-22\n    url = s3://b/public\n")
    key = "-----BEGIN KEY-----\nAAAABBBBCCCC\n-----END KEY-----"
    environment = {"AWS_SECRET_ACCESS_KEY": "abcdef123", "MY_TOKEN": "1", "SSH_PASSPHRASE": key, "HOME": "home-folder"}
    hide = make_redactor(tmp_path, {**environment, "DVC_GLOBAL_CONFIG_DIR": str(tmp_path / "none")})
    assert hide("abcdef123 hunter-22 https://me:pw@host/x") == "*** *** https://***@host/x"
    assert hide("line AAAABBBBCCCC") == "line ***"
    for name in ("SIGNING_KEY", "DB_PASS", "GITHUB_PAT", "SSH_PRIVATE_KEY", "PREFECT_API_DATABASE_CONNECTION_URL"):
        assert (
            make_redactor(tmp_path, {name: "abcdef123", "KEYBOARD": "german", "PWD": "home-folder"})(
                "abcdef123 german home-folder"
            )
            == "*** german home-folder"
        ), name
    assert hide("1 home-folder s3://b/public a@b.org") == "1 home-folder s3://b/public a@b.org"


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "[x](javascript:alert(1))", "a | b", "`code`", "![i](http://x/y.png)", "<b"]
)
def test_nothing_from_outside_is_markup(text: str) -> None:
    shown = markdown.escape(text)
    assert "<" not in shown
    for mark in "|[]()`!":
        assert mark not in shown.replace(f"\\{mark}", "")


def test_a_cell_stays_on_its_line_and_is_bounded() -> None:
    assert "\n" not in markdown.escape("a\nb\r\n| c")
    assert len(markdown.escape("x" * 10_000)) < 400
    page = markdown.table(["a"], [["1\n| 2 |"]])
    assert page.count("\n") == 2


def figures(name: str, values: dict[str, float]) -> Measurements:
    seeds = {"knn.top1": {run: {0: Figure(value, None, None)} for run, value in values.items()}}
    return Measurements(name, {run: {"knn.top1": value} for run, value in values.items()}, seeds)


def test_differences_name_what_changed_and_come_with_a_verdict(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("summary: {family: knn.top1}\n")
    before, now = (
        figures("previous run", {"left": 0.5, "gone": 0.1, "same": 0.3}),
        figures("now", {"left": 0.75, "same": 0.3}),
    )
    page = artifacts.difference_markdown(before, now, tmp_path)
    assert "| left | knn.top1 | 0.5000 | 0.7500 | +0.2500 | " in page
    assert "| gone | knn.top1 | 0.1000 | - |  |" in page
    assert "| same |" not in page
    assert "No metric changed" in artifacts.difference_markdown(now, now, tmp_path)
    assert "no previous run" in artifacts.difference_markdown(None, now, tmp_path)


def test_figures_are_remembered_as_they_were(tmp_path: Path) -> None:
    now = figures("previous run", {"left": 0.1 + 0.2})
    artifacts.store_figures(now, tmp_path)
    assert artifacts.load_previous_figures(tmp_path) == now
    (tmp_path / artifacts.PREVIOUS).write_text('{"means": 3}')
    assert artifacts.load_previous_figures(tmp_path) is None


def test_lineage_names_every_input_and_stage(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("x")
    page = artifacts.lineage_markdown(tmp_path, [StageLine("pretrain a", "ran", 3.25, 12_345_678, "why | not")])
    assert "not under git" in page
    assert "sha256 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" in page
    assert "| params.yaml | absent |" in page
    assert "| pretrain a | ran | 3.2 | 12.3 MB | why \\| not |" in page


@pytest.mark.parametrize(("size", "shown"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000_000, "2.5 GB")])
def test_sizes(size: int, shown: str) -> None:
    assert artifacts.megabytes(size) == shown


def test_the_stages_own_message_comes_before_dvcs() -> None:
    lines = ["error: the real reason. Found: x.", "ERROR: failed to reproduce 'a': exited with 1"]
    assert failure_message(CommandFailed(["dvc"], 255, lines)) == "the real reason. Found: x."
    assert failure_message(CommandFailed(["dvc"], 255, lines[1:])) == "failed to reproduce 'a': exited with 1"
    assert failure_message(CommandFailed(["dvc"], 255, ["Traceback", "ValueError: x", ""])) == "ValueError: x"
    assert failure_message(CommandFailed(["dvc", "repro"], 3)) == "dvc repro ended with status 3"


@pytest.mark.parametrize(
    ("line", "passes"),
    [
        ("error: the archive cannot be downloaded (https://x). Found: timed out. Fetch it.", True),
        ("error: the archive cannot be downloaded (https://x). Found: Service Unavailable. Fetch it.", True),
        ("error: the archive cannot be downloaded (https://x). Found: Not Found. Fetch it.", False),
        ("error: the archive has another checksum (x). Found: 12. Fetch it again.", False),
        ("step 3: timed out waiting for nothing", False),
    ],
)
def test_only_what_may_pass_by_itself_is_tried_again(line: str, passes: bool) -> None:
    assert is_transient([line, "ERROR: failed to reproduce 'ingest'"]) is passes


def test_a_run_is_alive_while_its_process_lives_and_dead_afterwards(tmp_path: Path, repository: Path) -> None:
    code = "import sys, time; from pathlib import Path; from pipeline.flows.liveness import register_run; "
    code += "register_run('abc', Path(sys.argv[1])); print('here', flush=True); time.sleep(600)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=repository, stdout=subprocess.PIPE, env={**os.environ}
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        (run,) = liveness.list_registered_runs(tmp_path)
        assert (run.run_id, run.alive, run.process) == ("abc", True, process.pid)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert wait_for(lambda: not liveness.list_registered_runs(tmp_path)[0].alive, 10)


@pytest.mark.parametrize(
    ("state", "age", "closed"), [("RUNNING", 1, True), ("CANCELLING", 1, False), ("CANCELLING", 100, True)]
)
def test_a_run_that_is_being_cancelled_is_left_to_its_worker_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, age: int, closed: bool
) -> None:
    since = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
    run = {"id": "abc", "name": "a-run", "state_id": "s", "state_type": state, "state_name": state.title()}
    run |= {"state": {"timestamp": since}, "deployment_id": None}  # type: ignore[dict-item]
    requested: list[str] = []

    def call(address: str, method: str, path: str, body: object = None) -> object:
        requested.append(path)
        return [run] if path == "/flow_runs/filter" else run

    monkeypatch.setattr(dead_runs, "call", call)
    (tmp_path / liveness.RUNS).mkdir(parents=True)
    (tmp_path / liveness.RUNS / "abc.json").write_text('{"process": 1}')  # nobody holds it
    closed_runs = dead_runs.close_dead_runs("http://127.0.0.1:1/api", tmp_path)
    message = f"closed run 'a-run', which was {state.title()}: its process 1 ended without reporting a state"
    assert [str(each) for each in closed_runs] == ([message] if closed else [])
    assert ("/flow_runs/abc/set_state" in requested) is closed
    assert (tmp_path / liveness.RUNS / "abc.json").exists() is not closed


def test_the_file_of_a_run_that_another_server_knows_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow called as a plain function uses a server of its own; the other server must still close its dead runs."""
    monkeypatch.setattr(dead_runs, "call", lambda *arguments: [])
    path = tmp_path / liveness.RUNS / "abc.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"process": 1}')
    assert dead_runs.close_dead_runs("http://127.0.0.1:1/api", tmp_path) == []
    assert path.exists()
