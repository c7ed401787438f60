"""`reprise status` tells what runs from files that anybody may have written, and from nothing that is dead."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dvc.stage.exceptions import StageCmdFailedError

from pipeline.graph.definition import load_graph
from pipeline.graph.in_dvc import steps
from pipeline.graph.running.processes import Counted, Part, Running, what_runs
from pipeline.graph.running.time_left import time_left
from pipeline.graph.running.words import NOTHING, Report, duration, report_running
from pipeline.graph.workspace import title_of
from reprise.storage.progress import Progress
from reprise.storage.running import FOLDER, announced, birth_of, machine_id, report_step
from tests.pipeline.dvc_project import Project, wait_for


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process that lives until the test ends."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process.pid
    process.kill()
    process.wait()


def note(process: int, **changes: Any) -> dict[str, Any]:
    """What a stage writes."""
    facts = {
        "process": process,
        "birth": birth_of(process),
        "machine": machine_id(),
        "host": "here",
        "kind": "stage",
        "title": "pretrain simclr seed 0",
        "stage": "",
        "since": time.time() - 600,
        "step": None,
        "work": [],
    }
    return facts | changes


def put(root: Path, content: Any, name: str = "1.json", folder: Path = FOLDER) -> Path:
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def only(root: Path) -> Running:
    (running,) = what_runs(root)
    return running


def test_nothing_runs(tmp_path: Path) -> None:
    assert report_running(tmp_path).lines() == [NOTHING]
    assert report_running(tmp_path).json() == {"running": []}
    assert report_running(tmp_path).summary() is None


def test_a_training_says_since_when_how_far_and_how_long(tmp_path: Path, sleeper: int) -> None:
    work = {
        "label": "pretrain simclr seed 0",
        "done": 1500,
        "total": 6000,
        "unit": "images",
        "rate": 50.0,
        "figures": {"epoch": 2, "step": 12, "loss": 5.25},
        "of": {"epoch": 6, "step": 48},
    }
    put(tmp_path, note(sleeper, work=[work]))
    (line,) = report_running(tmp_path).lines()
    assert line.startswith(f"pretrain simclr seed 0 (process {sleeper}): since ")
    assert "for 10 min; 1,500 of 6,000 images (25 %), epoch 2 of 6, step 12 of 48, loss 5.25, 50 images/s" in line
    assert line.endswith("; about 2 min left")
    (entry,) = report_running(tmp_path).json()["running"]
    assert entry["seconds_left"] == pytest.approx(90)
    assert entry["work"][0]["done"] == 1500


def test_what_a_killed_process_left_is_not_running(tmp_path: Path, sleeper: int) -> None:
    """Neither if its number is free, nor if another process has it now."""
    put(tmp_path, note(2**22 + 7, birth="17"), "free.json")
    put(tmp_path, note(sleeper, birth="17"), "reused.json")
    put(tmp_path, note(sleeper, birth=None), "unborn.json")
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    ended = note(zombie.pid)
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    put(tmp_path, ended, "zombie.json")
    assert what_runs(tmp_path) == []
    zombie.wait()


def test_the_next_process_removes_what_a_killed_one_left(tmp_path: Path, sleeper: int) -> None:
    dead = put(tmp_path, note(sleeper, birth="17"), "dead.json")
    alive = put(tmp_path, note(sleeper), "alive.json")
    odd = put(tmp_path, "[[", "odd.json")
    with announced("x", "stage", tmp_path / FOLDER) as announcement:
        assert announcement.path.exists()
    assert not dead.exists()
    assert alive.exists()
    assert odd.exists()
    assert not announcement.path.exists()


def test_a_process_on_another_machine_is_known_by_its_sign_of_life(tmp_path: Path) -> None:
    path = put(tmp_path, note(4, machine="other 1", host="node7"))
    assert "(process 4, on node7)" in report_running(tmp_path).lines()[0]
    os.utime(path, (time.time() - 120, time.time() - 120))
    assert what_runs(tmp_path) == []


def test_hostile_text_is_escaped_and_bounded(tmp_path: Path, sleeper: int) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202egnp\nfake line" + "a" * 1000
    part = {"number": 1, "of": 2, "title": evil, "unit": evil, "since": 1, "waiting": [evil], "ran": []}
    work = {"label": evil, "done": 1, "total": 2, "unit": evil, "rate": 1e300, "figures": {evil: 1.0}, "of": {evil: 2}}
    put(tmp_path, note(sleeper, title=evil, step=part, work=[work] * 50, since=1e300))
    report = report_running(tmp_path)
    assert len(report.running[0].counted) == 8
    for text in (*report.lines(), str(report.summary())):
        assert text.isprintable()
        assert len(text) < 20_000
    assert "\x1b" not in json.dumps(report.json())


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "7",
        "[" * 100_000,
        '{"process": 1}',
        json.dumps({"process": "1", "birth": "1"}),
        '{"process": -1, "machine": "x"}',
        '{"process": 1e400}',
        "{" + '"a":' * 5 + "1",
        "9" * 10_000,
    ],
)
def test_a_file_that_is_no_announcement_is_passed_over(tmp_path: Path, content: str) -> None:
    put(tmp_path, content)
    assert what_runs(tmp_path) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"work": [{"label": "x"}]},
        {"work": [{"label": "x", "done": -1, "total": 1, "unit": "x", "rate": 1}]},
        {"work": 7},
        {"step": {"number": 1}},
        {"title": None},
        {"work": [[]]},
        {"stage": {}},
    ],
)
def test_an_announcement_with_wrong_values_is_passed_over(tmp_path: Path, sleeper: int, changes: Any) -> None:
    put(tmp_path, note(sleeper, **changes))
    assert what_runs(tmp_path) == []


def test_odd_numbers_are_left_out(tmp_path: Path, sleeper: int) -> None:
    text = json.dumps(note(sleeper, since=0)).replace('"since": 0', '"since": NaN')
    work = '[{"label": "x", "done": 1, "total": null, "unit": "y", "rate": Infinity, "figures": {"loss": NaN}}]'
    put(tmp_path, text.replace('"work": []', f'"work": {work}'))
    running = only(tmp_path)
    assert running.since is None
    assert running.counted == (Counted("x", 1, None, "y", 0.0),)
    assert report_running(tmp_path).lines() == [f"pretrain simclr seed 0 (process {sleeper}): x 1 y, 0 y/s"]


def test_no_file_makes_it_wait(tmp_path: Path, sleeper: int) -> None:
    put(tmp_path, note(sleeper))
    os.mkfifo(tmp_path / FOLDER / "2.json")
    (tmp_path / FOLDER / "3.json").symlink_to("/dev/zero")
    (tmp_path / FOLDER / "4.json").mkdir()
    assert only(tmp_path).process == sleeper


def test_a_stage_is_shown_below_what_started_it(tmp_path: Path) -> None:
    """The processes of a test: this one starts another, which announces a stage."""
    code = (
        "import sys, time; from pathlib import Path; from reprise.storage.running import announced\n"
        "with announced('shard', 'stage', Path(sys.argv[1])): print(flush=True); time.sleep(600)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / FOLDER)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    outer = subprocess.Popen(["true"])
    outer.wait()
    put(tmp_path, note(os.getppid(), kind="command", title="reprise repro", since=1.0), "2.json")
    try:
        lines = report_running(tmp_path).lines()
    finally:
        child.kill()
        child.communicate()
    assert lines[0].startswith(f"reprise repro (process {os.getppid()})")
    assert lines[1].startswith(f"  shard (process {child.pid})")


def test_the_clones_of_sweeps_and_experiments_belong_to_the_project(tmp_path: Path, sleeper: int) -> None:
    (tmp_path / ".git").mkdir()
    root = tmp_path / "below"
    for number, place in enumerate((".reprise/sweeps/point-1/tree/below", ".dvc/tmp/exps/tmp1/below")):
        put(root / place, note([sleeper, os.getppid()][number]))
    assert {running.folder for running in what_runs(root)} == {
        ".dvc/tmp/exps/tmp1/below",
        ".reprise/sweeps/point-1/tree/below",
    }


def put_seconds(root: Path) -> None:
    """Let two trainings and a probe have run before."""
    for name, seconds in {
        "pretrain/random/0": 100.0,
        "pretrain/simclr/0": 200.0,
        "probe/random/0/features": 7.0,
    }.items():
        put(root, {"seconds": seconds}, f"{name}.json", Path(".reprise/provenance"))


def test_steps_are_reported_and_estimated_by_how_long_they_took_before(toy: Project) -> None:
    root = toy.root
    graph = load_graph(root)
    names = [stage.name for stage in graph.stages]
    put_seconds(root)
    number = names.index("pretrain@run0-0") + 1
    part = Part(number, len(names), names[number - 1], "stage", time.time(), tuple(names[number:]), ("shard",))
    driver = Running(1, "graph", "dvc repro", time.time() - 50, part=part)
    stage = Running(2, "stage", "x", time.time() - 40, stage="pretrain@run0-0", parent=1)
    left = time_left(driver, [driver, stage], graph, root)
    assert left is not None
    # 60 of the training that runs, 200 of the other one, twice 7 for the probes: the second one's is the first one's
    assert left.seconds == pytest.approx(60 + 200 + 7 + 7, abs=2)
    assert not left.known  # summary never ran
    lines = Report([driver, stage], graph, root).lines()
    assert f"stage {number} of {len(names)}, pretrain random seed 0; at least 5 min left" in lines[0]
    said = Report([driver, stage], graph, root).summary()
    assert said is not None
    assert said.startswith("a run is in progress: dvc repro (process 1): since ")
    assert f"; stage {number} of {len(names)}, pretrain random seed 0; at least 5 min left" in said


def test_stages_that_run_at_once_are_named_together_and_share_the_time(toy: Project) -> None:
    root, graph = toy.root, load_graph(toy.root)
    names = [stage.name for stage in graph.stages]
    put_seconds(root)
    waiting = ("probe@run0-0", "probe@run1-0")
    beside = ("pretrain@run0-0",)
    part = Part(3, 5, "pretrain@run1-0", "stage", time.time(), waiting, ("shard",), beside=beside, at_once=2)
    assert {*waiting, *beside} < {*names}
    driver = Running(1, "command", "reprise repro", time.time() - 50, part=part)
    stages = [Running(n, "stage", "x", time.time(), stage=f"pretrain@run{n - 2}-0", parent=1) for n in (2, 3)]
    left = time_left(driver, [driver, *stages], graph, root)
    assert left is not None
    assert left.seconds == pytest.approx(200 + 7, abs=2)  # the other training and its probe end before
    line = Report([driver, *stages], graph, root).lines()[0]
    assert "3 of 5 stages have begun, pretrain random seed 0, pretrain simclr seed 0 are under way; about" in line
    alone = replace(part, at_once=1)
    left = time_left(replace(driver, part=alone), [driver, *stages], graph, root)
    assert left is not None
    assert left.seconds == pytest.approx(200 + 7 + 7, abs=2)


def test_a_dvc_that_counts_nothing_is_placed_by_the_graph(toy: Project) -> None:
    graph = load_graph(toy.root)
    names = [stage.name for stage in graph.stages]
    number = names.index("pretrain@run1-0") + 1
    driver = Running(1, "graph", "dvc repro", time.time() - 50)
    work = Counted("x", 1, 101, "images", 1.0)
    stage = Running(2, "stage", "x", time.time() - 40, stage="pretrain@run1-0", parent=1, counted=(work,))
    lines = Report([driver, stage], graph, toy.root).lines()
    assert f"stage {number} of the {len(names)} of the graph, pretrain simclr seed 0; at least 2 min left" in lines[0]
    assert lines[1].startswith("  pretrain simclr seed 0 (process 2): since ")


def test_points_of_a_sweep_are_estimated_by_those_that_are_done() -> None:
    part = Part(4, 12, "b", "point", time.time())
    left = time_left(Running(1, "command", "reprise sweep", time.time() - 300, part=part), [], None, Path())
    assert left is not None
    assert left.seconds == pytest.approx(900, rel=0.05)


def test_progress_and_steps_reach_the_file(tmp_path: Path) -> None:
    with announced("shard", "stage", tmp_path / FOLDER) as announcement, Progress("shard", 10) as progress:
        progress.advance(4, loss=0.5)
        report_step(2, 5, "b", waiting=["c"])
        written = json.loads(announcement.path.read_text())
        assert written["work"][-1]["done"] == 4
        assert written["step"]["number"] == 2
        progress.advance(1)
        announcement.write()
        assert json.loads(announcement.path.read_text())["work"][-1]["done"] == 5
    report_step(3, 5, "c")  # nobody is told
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_an_announcement_that_cannot_be_written_disturbs_nothing(tmp_path: Path) -> None:
    (tmp_path / ".reprise").write_text("a file")
    with announced("shard", "stage", tmp_path / FOLDER) as announcement:
        assert not announcement.path.exists()


def test_commands_have_readable_names() -> None:
    assert title_of(["python", "-c", "from pipeline.cli.main import main; main()", "repro", "a b"]) == (
        "reprise repro 'a b'"
    )
    assert title_of(["/x/bin/python", "/x/bin/reprise", "flows", "run"]) == "reprise flows run"
    assert title_of(["python", "-P", "-m", "prefect.engine"]) == "python -m prefect.engine"


def test_durations() -> None:
    assert [duration(s) for s in (0, 89, 90, 5340, 11_400, 183_600)] == [
        "0 s",
        "89 s",
        "2 min",
        "89 min",
        "3 h 10 min",
        "2 d 3 h",
    ]


@pytest.mark.slow
def test_a_run_of_the_graph_is_seen_by_all_commands_that_only_look(toy: Project) -> None:
    """None of them waits, although DVC has locked the outputs of the stage that runs."""
    toy.write("input.txt", "sleep")
    toy.write("source.lock.json", "{}")
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"], cwd=toy.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for((toy.root / "sleeping").exists)
        assert f"dvc repro (process {process.pid})" in toy.reprise("status").stdout
        shown = toy.reprise("runs")
        assert "shard\tshard\tchanged" in shown.stdout
        assert "a run is in progress: dvc repro" in shown.stderr
        assert "Would run" in toy.reprise("why").stdout
    finally:
        process.kill()
        process.wait()
    os.kill(int((toy.root / "sleeping").read_text()), signal.SIGKILL)


@pytest.mark.slow
def test_a_run_says_which_stage_of_how_many_begins(toy: Project) -> None:
    """DVC's own order is not the same in every project; stages that begin at the same moment are said in any order."""
    stages = re.compile(r"^stage (\d) of 6, (.*)", re.MULTILINE)
    begun = stages.findall(toy.reprise("repro").stdout)
    titles = [title for _, title in begun]
    assert sorted(number for number, _ in begun) == list("123456")
    assert sorted(titles) == sorted(stage.title for stage in load_graph(toy.root).stages)
    assert titles[0] == "shard"
    assert titles[-1] == "summary"
    toy.write("methods/simclr.py", "3")
    begun_again = stages.findall(toy.reprise("repro").stdout)
    assert {title for _, title in begun_again} == {"pretrain simclr seed 0", "probe simclr seed 0", "summary"}
    assert {title for number, title in begun_again if number == "6"} == {"summary"}
    assert not stages.search(toy.reprise("repro", "--force", "shard").stdout)  # one of one needs no number


class Stage:
    """As much of DVC's stage as is looked at."""

    def __init__(self, addressing: str) -> None:
        self.addressing = addressing


def test_stages_are_counted_in_the_order_in_which_dvc_goes_through_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_titles", lambda: {"b": "the second"})
    seen: list[dict[str, Any]] = []

    def go_through(stages: list[Stage], repro_fn: Any) -> list[Any]:
        return [repro_fn(stage, upstream=[]) for stage in stages]

    def look_at(stage: Stage, upstream: list[Any]) -> Stage | None:
        seen.append(json.loads(announcement.path.read_text())["step"])
        steps.say_before(lambda stage: None)(stage)
        return stage if stage.addressing == "a" else None

    with announced("dvc repro", "graph", tmp_path / FOLDER) as announcement:
        steps.count_stages(go_through)([Stage("a"), Stage("b"), Stage("c")], repro_fn=look_at)
    assert [(s["number"], s["of"], s["title"], s["waiting"], s["ran"]) for s in seen] == [
        (1, 3, "a", ["b", "c"], []),
        (2, 3, "b", ["c"], ["a"]),
        (3, 3, "c", [], ["a"]),
    ]
    assert capsys.readouterr().out == "stage 1 of 3, a\nstage 2 of 3, the second\nstage 3 of 3, c\n"


@pytest.mark.parametrize(("status", "ends"), [(130, SystemExit), (-2, SystemExit), (1, StageCmdFailedError)])
def test_an_interrupted_stage_is_no_failure_to_dvc(status: int, ends: type[BaseException]) -> None:
    """DVC would print an error below the sentence of the stage."""

    def fail(stage: Stage) -> None:
        raise StageCmdFailedError("python x", status)

    with pytest.raises(ends):
        steps.say_before(fail)(Stage("a"))
