"""`--json`: one strict document on stdout and nothing else, also for errors, hostile names and numbers."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.cli.commands import app
from pipeline.cli.described.reference import commands
from pipeline.cli.graph import run
from pipeline.cli.output import to_json
from pipeline.processes.commands import environment
from tests.pipeline.cli.answers import ERROR, strict, undeclared
from tests.pipeline.dvc_project import REPRISE, Project

ALL = {command.name: command for command in commands(app)}
HOSTILE = "a\nb\x1b[31m\x7f\u2028\u202e\"\\'"


def fields_of(name: str) -> dict[str, str]:
    description = ALL[name].description
    assert description is not None and description.fields
    return dict(description.fields)


def asked(root: Path, name: str, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, Any, str]:
    """Run a command with --json in a process of its own: exit code, document, stderr."""
    done = subprocess.run(
        [*REPRISE, *name.split(), *arguments, "--json"],
        cwd=root, env={**environment(), **(env or {})}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return done.returncode, strict(done.stdout), done.stderr


def answered(root: Path, name: str, *arguments: str) -> Any:
    """The document of a command, which holds exactly what the command declares."""
    status, document, said = asked(root, name, *arguments)
    assert "error" not in document, (document, said)
    assert undeclared(document, fields_of(name)) == []
    assert status in (0, 3), said
    return document


def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    monkeypatch.setattr(sys, "argv", ["reprise", *words])
    status = 0
    try:
        main.main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    return status, strict(capsys.readouterr().out)


NEEDED = {"search": ["x.jpg"], "export": ["simclr"], "promote": ["simclr"], "track": ["tensorboard"], "predict": ["x"]}
NEEDED |= {"get": ["simclr", "--out", "x"], "sweep": ["plan.yaml"], "flows run sweep": ["plan.yaml"]}
NEEDED |= {"compare-representations": ["HEAD"], "init": ["x", "--preset", "nosuch"]}
NEEDED |= {name: ["--backbone", "x", "--data", "nosuch"] for name in ("embed", "probe")}
NEEDED["embed"] += ["--out", "x.parquet"]


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("flows serve", "worker", "doctor", "check")])
def test_an_error_is_a_document_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Outside of a project, or for what is not there."""
    monkeypatch.chdir(tmp_path)
    status, document = in_process(monkeypatch, capsys, *name.split(), *NEEDED.get(name, []), "--json")
    assert undeclared(document, ERROR) == []
    assert document["error"]["exit_code"] == status
    assert status == (2 if name == "init" else 1), document
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [["nosuch"], ["export"], ["list", "--top"], ["export", "x", "--to", HOSTILE], ["--no"]]
)
def test_a_wrong_command_line_is_a_document_too(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, document = in_process(monkeypatch, capsys, *words, "--json")
    assert status == 2
    assert undeclared(document, ERROR) == []


def test_a_defect_is_a_document_and_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], repository: Path
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("https://user:canary-0123456789abcdef@example.org/x")

    monkeypatch.chdir(repository)
    monkeypatch.setattr("pipeline.graph.running.words.report_running", broken)
    monkeypatch.setattr(sys, "argv", ["reprise", "status", "--json"])
    with pytest.raises(KeyError):
        main.main()
    document = strict(capsys.readouterr().out)
    assert undeclared(document, ERROR) == []
    assert (document["error"]["what"], document["error"]["exit_code"]) == ("a defect of Reprise", 1)
    assert "canary" not in str(document)


def test_documents_of_a_project(built: Project) -> None:
    """Stages and their processes print a lot; stdout holds the document alone."""
    root = built.root
    assert answered(root, "status") == {"running": []}
    built.replace("params.yaml", "temperature: 0.5", "temperature: 0.7")
    (waiting,) = answered(root, "why")["now"]
    assert waiting["title"] == "pretrain simclr seed 0"
    ran = answered(root, "repro", "--jobs", "1")
    assert [row["title"] for row in ran["rewritten"]][:1] == ["pretrain simclr seed 0"]


def test_a_scan_that_finds_no_change_says_so(built: Project) -> None:
    assert built.reprise("scan").stdout == "source.lock.json: the source did not change\n"


def test_the_page_of_views_lies_where_the_person_is(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[list[str]] = []
    monkeypatch.setattr("pipeline.graph.stage_modules.show_views", shown.append)
    for out in ([], ["--out", "views.html"]):
        monkeypatch.chdir(repository / "docs")
        app(["views", *out, "--json"], standalone_mode=False)
    pages = [arguments[arguments.index("--out") + 1] for arguments in shown]
    assert pages == [".reprise/views.html", str(repository / "docs" / "views.html")]
    assert pages[1] in capsys.readouterr().out


@pytest.mark.slow
def test_documents_of_a_project_that_is_up_to_date(built: Project) -> None:
    root = built.root
    assert {row["state"] for row in answered(root, "runs")} == {"up to date"}
    assert answered(root, "why") == {"now": [], "then": []}
    assert answered(root, "repro")["rewritten"] == []
    assert answered(root, "scan") == {"file": "source.lock.json", "changed": False}
    assert answered(root, "prune") == {"folders": [], "entries": [], "moved": [], "foreign": []}


def test_what_differs_is_a_document_with_status_3(built: Project) -> None:
    root = built.root
    assert answered(root, "verify")["passed"] is True
    name = os.fsdecode(b"data/runs/simclr/0/\xff\n\x1b[31m")
    (root / name).write_bytes(b"x")
    status, document, _ = asked(root, "verify")
    assert status == 3
    assert undeclared(document, fields_of("verify")) == []
    assert document["passed"] is False
    assert "\\udcff" in json.dumps(document["problems"]).replace("\\\\", "\\")


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_stage_that_fails_is_an_error_with_its_sentence(built: Project, jobs: str) -> None:
    built.write("input.txt", "fail")
    status, document, said = asked(built.root, "repro", "--jobs", jobs)
    assert status == 1
    assert undeclared(document, ERROR) == []
    what = {"1": "dvc repro failed with exit status 255", "2": "stages of the graph failed"}
    assert document["error"]["what"] == what[jobs]
    assert "the toy was told to fail" in document["error"]["found"]
    assert "Running stage" not in str(document)
    assert "the toy was told to fail" in said


def test_documents_of_this_project(repository: Path) -> None:
    """Those that read the code and its documentation."""
    assert len(answered(repository, "list", "schedules")) > 2
    assert answered(repository, "list", "presets")
    assert "methods" in answered(repository, "params")["names"]
    (temperature,) = answered(repository, "params", "methods.simclr.temperature")["parameters"]
    assert temperature["name"].endswith("temperature")
    status, document, _ = asked(repository, "params", "shrad")
    assert status == 2 and undeclared(document, ERROR) == []
    assert "Did you mean 'shard'?" in document["error"]["found"]


@pytest.mark.slow
def test_the_document_of_the_doctor(repository: Path) -> None:
    assert {row["state"] for row in answered(repository, "doctor")} <= {"ok", "note", "problem"}


def test_the_check_says_each_problem_in_parts(repository: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    done = answered(tmp_path, "init", str(project), "--preset", "digits")
    assert done["folder"] == str(project)
    text = (project / "params.yaml").read_text(encoding="utf-8")
    (project / "params.yaml").write_text(text.replace("\n  epochs:", "\n  epochs: -1  #", 1), encoding="utf-8")
    status, document, _ = asked(project, "check")
    assert status == 2
    assert undeclared(document, fields_of("check")) == []
    assert document["valid"] is False
    assert document["problems"][0]["found"] == "-1"


@pytest.mark.slow
def test_the_check_of_valid_parameters_and_of_no_yaml(repository: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    answered(tmp_path, "init", str(project), "--preset", "digits")
    found = answered(project, "check")
    assert found["valid"] is True and found["problems"] == []
    (project / "params.yaml").write_text("a: [", encoding="utf-8")
    status, document, _ = asked(project, "check")
    assert status == 2
    assert "not plain YAML" in document["error"]["found"]
    assert subprocess.run([*REPRISE, "check"], cwd=project, capture_output=True, check=False).returncode == 2


@dataclass
class Thing:
    name: str
    value: float


def test_numbers_and_names_that_json_does_not_know() -> None:
    lone = os.fsdecode(b"caf\xe9")
    thing = {"path": Path(lone), "values": (math.nan, math.inf, -math.inf, 1e308), HOSTILE: Thing(lone, -0.0), 1: None}
    document = strict(to_json(thing))
    assert document == {
        "path": "caf\\udce9",
        "values": ["NaN", "Infinity", "-Infinity", 1e308],
        HOSTILE: {"name": "caf\\udce9", "value": 0.0},
        "1": None,
    }


def test_the_word_json_after_two_dashes_asks_for_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reprise", "search", "--", "--json"])
    with pytest.raises(SystemExit):
        main.main()
    assert capsys.readouterr().out == ""


def test_stdout_is_given_back(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("dvc.yaml", "params.yaml"):  # a folder of its own, in which no other test runs a stage
        shutil.copy(repository / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reprise", "status", "--json"])
    with pytest.raises(SystemExit):
        main.main()
    print("after")
    sys.stdout.flush()
    out = capfd.readouterr().out
    assert out.endswith("after\n") and strict(out.removesuffix("after\n")) == {"running": []}


def test_a_closed_stdout_ends_the_command_with_its_code(repository: Path) -> None:
    """`reprise status --json >&-` has nowhere to answer; it must not write into another file."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -c "{REPRISE[2]}" status --json >&-'],
        cwd=repository, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_lock_that_a_kill_left_does_not_stop_a_run_for_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run itself sets the file aside, as the advice says that stands in the error."""
    for name, text in {
        "dvc.yaml": "stages: {a: {cmd: ls, outs: [out]}}\n",
        "params.yaml": "{}\n",
        "dvc.lock": "schema: '2.0'\nsta",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "run_graph", lambda *arguments, **options: (tmp_path / "dvc.lock").unlink())
    assert in_process(monkeypatch, capsys, "repro", "--json") == (0, {"stages": 1, "rewritten": []})


@pytest.mark.parametrize(
    "words", ["repro --workers tcp://h:1 --share-checkpoints inf", "worker tcp://h:1 --memory-gib inf"]
)
def test_a_number_without_an_end_is_a_wrong_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reprise", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert "finite" in capsys.readouterr().err
