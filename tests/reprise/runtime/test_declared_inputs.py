"""Promise 12: a stage whose parameters, code or data change while it runs publishes nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from reprise.config import params as parameters
from reprise.config.errors import InputsChanged
from reprise.config.params import read_yaml
from reprise.runtime import declared_inputs, used_inputs
from reprise.runtime.declared_inputs import DeclaredInputs, take_inputs
from reprise.storage import atomic, content_hashes
from reprise.storage.atomic import atomic_directory, write_json
from reprise.storage.code import fingerprint
from reprise.storage.code.fingerprint import fingerprint as fingerprint_of

GRAPH = """
stages:
  train:
    matrix: {run: "${runs}"}
    cmd: python -P stages/run.py stages.train --run ${item.run.name}
    deps: [data/code/train.json, data/shards, "data/mine/${item.run.labels}", targets.csv]
    params: [train, "methods.${item.run.name}"]
    outs: ["data/runs/${item.run.name}"]
"""
PARAMS = """
runs: [{name: simclr, labels: none}, {name: byol, labels: none}]
train: {rate: 0.1, epochs: 3}
methods: {simclr: {temperature: 0.5}, byol: {}}
report: {title: x}
"""
ARGV = ["python", "-P", "stages/run.py", "stages.train", "--run", "simclr"]
CODE = {
    "plugins/__init__.py": "",
    "plugins/method.py": "import plugins.loss\n\n\ndef step():\n    # a comment\n    return 1\n",
    "plugins/loss.py": "def loss():\n    return 2\n",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project whose stage `train` is about to start in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "train@run0")
    monkeypatch.setattr(atomic, "_before_publishing", [])
    monkeypatch.setattr(parameters, "_kept", {})
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(declared_inputs, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(declared_inputs.threading, "Thread", lambda **_: SimpleNamespace(start=lambda: None))
    monkeypatch.setattr(fingerprint, "_sources", fingerprint._SourceCache)  # nothing is remembered between tests
    fingerprint._root_of.cache_clear()
    files = CODE | {"dvc.yaml": GRAPH, "params.yaml": PARAMS, "targets.csv": "path,age\n"}
    for name, text in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    for name in ("data/shards/a.tar", "data/shards/b.tar", "data/mine/none/x", "data/mine/other/x"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("content")
    write_json("data/code/train.json", fingerprint_of(["plugins.method"], {"plugins": tmp_path}))
    yield tmp_path
    fingerprint._root_of.cache_clear()


def replace(name: str, old: str, new: str) -> Callable[[], object]:
    def edit() -> None:
        text = Path(name).read_text()
        assert old in text
        Path(name).write_text(text.replace(old, new))

    return edit


EDITS: dict[str, tuple[Callable[[], object], str]] = {
    "a declared parameter": (replace("params.yaml", "rate: 0.1", "rate: 0.2"), "train.rate: 0.1 -> 0.2"),
    "a parameter of the run": (replace("params.yaml", "0.5", "0.7"), "methods.simclr.temperature: 0.5 -> 0.7"),
    "a parameter that is new": (replace("params.yaml", "epochs: 3", "epochs: 3, decay: 1"), "train.decay: None -> 1"),
    "the labels in the row": (replace("params.yaml", "simclr, labels: none", "simclr, labels: other"), "a table in"),
    "the order of the rows": (
        replace(
            "params.yaml", "[{name: simclr, labels: none}, {name: byol", "[{name: zero, labels: none}, {name: byol"
        ),
        "a table in",
    ),
    "params.yaml is broken": (replace("params.yaml", "runs: [", "runs: [["), "not plain YAML"),
    "params.yaml is gone": (lambda: Path("params.yaml").unlink(), "cannot read"),
    "the entry in dvc.yaml": (replace("dvc.yaml", ", targets.csv", ""), "dvc.yaml"),
    "a function": (replace("plugins/method.py", "return 1", "return 3"), r"plugins/method.py (step)"),
    "an imported module": (replace("plugins/loss.py", "return 2", "return 3"), r"plugins/loss.py (loss)"),
    "a module that is gone": (lambda: Path("plugins/loss.py").unlink(), "plugins/loss.py"),
    "the fingerprint": (lambda: write_json("data/code/train.json", {}), "data/code/train.json (changed)"),
    "a file in a folder": (lambda: Path("data/shards/b.tar").write_text("changed"), "data/shards/b.tar (changed)"),
    "a file of the same length": (lambda: Path("data/shards/b.tar").write_text("CONTENT"), "b.tar (changed)"),
    "a new file in a folder": (lambda: Path("data/shards/c.tar").write_text(""), "data/shards/c.tar (new)"),
    "a file that is gone": (lambda: Path("data/shards/a.tar").unlink(), "data/shards/a.tar (gone)"),
    "targets": (lambda: Path("targets.csv").write_text("path,size\n"), "targets.csv (changed)"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_while_the_stage_runs_keeps_it_from_publishing(project: Path, name: str) -> None:
    inputs = take_inputs(ARGV)
    assert inputs is not None
    out = Path("data/runs/simclr")
    edit, expected = EDITS[name]

    def publish() -> None:
        with atomic_directory(out) as folder:
            (folder / "weights").write_text("of the old inputs")
            edit()

    with pytest.raises(InputsChanged) as refusal:
        publish()
    assert expected in str(refusal.value)
    assert not out.exists()
    with pytest.raises(InputsChanged):
        inputs.finish()
    assert not used_inputs.NOTES.exists()


UNRELATED = {
    "a comment": replace("plugins/method.py", "# a comment", "# another one"),
    "another section": replace("params.yaml", "title: x", "title: y"),
    "another run": replace("params.yaml", "byol: {}", "byol: {momentum: 0.9}"),
    "a new run": replace("params.yaml", "labels: none}]", "labels: none}, {name: moco, labels: none}]"),
    "a comment in params.yaml": replace("params.yaml", "report:", "# words\nreport:"),
    "an edit that was taken back": lambda: (
        replace("params.yaml", "0.1", "0.2")(),
        replace("params.yaml", "0.2", "0.1")(),
    ),
    "code that was taken back": lambda: (
        replace("plugins/loss.py", "2", "3")(),
        replace("plugins/loss.py", "3", "2")(),
    ),
    "what .dvcignore leaves out": lambda: (Path("data/shards/.gitignore").write_text("*"),),
}


@pytest.mark.parametrize("name", UNRELATED)
def test_an_edit_of_something_else_does_no_harm(project: Path, name: str) -> None:
    inputs = take_inputs(ARGV)
    assert inputs is not None
    UNRELATED[name]()
    with atomic_directory("data/runs/simclr") as folder:
        (folder / "weights").write_text("")
    inputs.finish()
    (note,) = used_inputs.notes()
    assert note["params"] == {"train": {"rate": 0.1, "epochs": 3}, "methods.simclr": {"temperature": 0.5}}


def test_the_stage_works_on_with_the_parameters_of_its_start(project: Path) -> None:
    take_inputs(ARGV)
    replace("params.yaml", "0.1", "0.2")()
    assert read_yaml()["train"]["rate"] == 0.1
    assert read_yaml(now=True)["train"]["rate"] == 0.2


def test_what_is_no_output_of_the_stage_is_written_whatever_changed(project: Path) -> None:
    take_inputs(ARGV)
    replace("params.yaml", "0.1", "0.2")()
    write_json(".reprise/work/checkpoint.json", {})
    with pytest.raises(InputsChanged):
        write_json("data/runs/simclr/config.json", {})


def test_code_that_changed_after_the_check_does_not_run(project: Path) -> None:
    replace("plugins/loss.py", "return 2", "return 3")()
    with pytest.raises(InputsChanged, match=r"plugins/loss\.py \(loss\)"):
        take_inputs(ARGV)


def test_a_module_edited_before_it_is_loaded_is_not_loaded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(project))
    take_inputs(ARGV)
    replace("plugins/loss.py", "return 2", "return 3")()
    with pytest.raises(InputsChanged, match=r"plugins/loss\.py"):
        __import__("plugins.loss")
    replace("plugins/loss.py", "return 3", "return 2")()
    for name in [name for name in sys.modules if name.partition(".")[0] == "plugins"]:
        monkeypatch.delitem(sys.modules, name)
    assert __import__("plugins.loss").loss.loss() == 2


@pytest.mark.parametrize("stage", ["train@run1", "train@run7", "gone"])
def test_a_graph_that_dvc_read_before_the_edit_does_not_run(
    project: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """DVC numbers the rows: after an edit, the number may stand for another run."""
    monkeypatch.setenv("DVC_STAGE", stage)
    with pytest.raises(InputsChanged, match="the graph changed"):
        take_inputs(ARGV)


def test_outside_dvc_nothing_is_compared(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE")
    assert take_inputs(ARGV) is None


def test_a_person_is_told_while_the_stage_still_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = DeclaredInputs.__new__(DeclaredInputs)
    stage.stage = SimpleNamespace(title="train simclr")  # type: ignore[assignment]
    answers = iter([[], ["train.rate: 1 -> 2"], ["train.rate: 1 -> 2"], [], KeyError()])

    def changes() -> list[str]:
        answer = next(answers)
        if isinstance(answer, KeyError):
            raise answer
        return answer

    glances = iter(["as begun", "edited", "edited", "edited", "other file", "back", "again", "again", "end"])
    stage.glance = lambda: (next(glances),)  # type: ignore[method-assign]
    stage.changes = changes  # type: ignore[method-assign]
    with pytest.raises(KeyError):
        declared_inputs._warn_of_changes(stage)
    assert capsys.readouterr().err.count("train.rate: 1 -> 2") == 1
    assert list(glances) == ["again", "end"], "params.yaml is read only where the file system shows a change"


def test_a_glance_shows_each_edit(project: Path) -> None:
    inputs = take_inputs(ARGV)
    assert inputs is not None
    before = inputs.glance()
    assert inputs.glance() == before
    for file in ("params.yaml", "dvc.yaml", "targets.csv"):
        content = Path(file).read_bytes()
        Path(file).write_bytes(content + b"\n")
        assert inputs.glance() != before
        before = inputs.glance()


# ---- the moment between the stage's end and DVC's record -------------------------------------------------------------


LOCK = """schema: '2.0'
stages:
  train@run0:
    cmd: python -P stages/run.py stages.train --run simclr
    deps:
    - path: data/code/train.json
      hash: md5
      md5: {code}
    - path: data/mine/none
      hash: md5
      md5: 0.dir
    - path: data/shards
      hash: md5
      md5: 1.dir
    - path: targets.csv
      hash: md5
      md5: {targets}
    params:
      params.yaml:
        methods.simclr:
          temperature: 0.5
        train:
          epochs: 3
          rate: {rate}
  train@run10:
    cmd: another
"""


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"rate": "0.2"}, "train simclr: train.rate: 0.1 -> 0.2"),
        ({"targets": "0" * 32}, "train simclr: targets.csv: another content"),
        ({"code": "0" * 32}, "train simclr: data/code/train.json: another content"),
    ],
)
def test_a_record_of_what_was_not_used_is_found(project: Path, changed: dict[str, str], said: str) -> None:
    inputs = take_inputs(ARGV)
    assert inputs is not None
    inputs.finish()
    right = {
        "rate": "0.1",
        "targets": content_hashes.md5_of_small_file("targets.csv"),
        "code": content_hashes.md5_of_small_file("data/code/train.json"),
    }
    Path("dvc.lock").write_text(LOCK.format(**right | changed))
    wrong = used_inputs.wrong_records()
    assert wrong == ({"train@run0": [said]} if said else {})
    assert bool(used_inputs.notes()) == bool(said)  # a note that agrees has done its work
    if said:
        with pytest.raises(InputsChanged, match="reprise repro"):
            used_inputs.refuse_wrong_records(used_inputs.dvc_process())
        assert used_inputs.wrong_records("another DVC process") == {}
        used_inputs.refuse_wrong_records("another DVC process")


@pytest.mark.parametrize("text", ["", "[]", "{", json.dumps({"stage": 1}), "\0"])
def test_a_damaged_note_says_nothing(project: Path, text: str) -> None:
    used_inputs.NOTES.mkdir(parents=True)
    (used_inputs.NOTES / "x.json").write_text(text)
    assert used_inputs.wrong_records() == {}
