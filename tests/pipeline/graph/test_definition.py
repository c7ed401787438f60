from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.graph.definition import load_graph
from pipeline.processes.commands import capture
from reprise.config.dvc_file import overlaps, stages_of
from reprise.config.errors import GraphError
from tests.pipeline.dvc_project import Project


def test_the_reader_agrees_with_dvc_on_the_real_graph(repository: Path) -> None:
    listed = capture([sys.executable, "-m", "dvc", "stage", "list", "--name-only"], cwd=repository).split()
    graph = load_graph(repository)
    assert sorted(graph.by_name) == sorted(listed)


def test_every_stage_stands_after_what_it_needs(repository: Path) -> None:
    graph = load_graph(repository)
    seen: set[str] = set()
    for stage in graph.stages:
        assert graph.upstream(stage.name) <= seen, stage.name
        seen.add(stage.name)


def test_people_name_stages_by_words(toy: Project) -> None:
    graph = load_graph(toy.root)
    assert graph.by_name["probe@run1-0"].title == "probe simclr seed 0"
    assert graph.find(["pretrain simclr"]) == ["pretrain@run1-0"]
    assert graph.find(["pretrain/random/0", "summary"]) == ["pretrain@run0-0", "summary"]
    assert graph.find(["pretrain", "pretrain@run0-0"]) == ["pretrain@run0-0", "pretrain@run1-0"]
    with pytest.raises(GraphError, match="no stage is called 'pretrain sinclr'"):
        graph.find(["pretrain sinclr"])


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("pretrain/simcrl", "pretrain/simclr"),
        ("pretrain/SimCLR/0", "pretrain/simclr/0"),
        ("pre-train sim-clr", "pretrain/simclr"),
        ("Summary", "summary"),
        ("probe simlcr seed 0", "probe/simclr/0"),
    ],
)
def test_a_misspelt_target_gets_a_suggestion(toy: Project, target: str, meant: str) -> None:
    with pytest.raises(GraphError) as caught:
        load_graph(toy.root).find([target])
    assert caught.value.fix.startswith(f"Did you mean '{meant}'? ")
    assert load_graph(toy.root).find([meant])


def test_an_unrelated_target_gets_none(toy: Project) -> None:
    with pytest.raises(GraphError) as caught:
        load_graph(toy.root).find(["pretrain/zzz"])
    assert "Did you mean" not in str(caught.value)
    assert caught.value.found == "stages pretrain/random/0, pretrain/simclr/0"


def test_a_wrong_target_is_a_wrong_command_line(toy: Project) -> None:
    for command in ("repro", "why"):
        done = toy.reprise(command, "pretrain/simcrl", check=False)
        assert done.returncode == 2
        assert "Did you mean 'pretrain/simclr'?" in done.stderr


def test_downstream_and_needed(toy: Project) -> None:
    graph = load_graph(toy.root)
    assert graph.downstream(["pretrain@run0-0"]) == ["probe@run0-0", "summary"]
    assert graph.needed_for(["probe@run1-0"]) == ["shard", "pretrain@run1-0", "probe@run1-0"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("${train}", "${train.sped}", "matrix axis|'train.sped'"),
        ("deps: [data/probe]", "deps: [data/probe, '${runs}']", "'runs' is used inside text"),
        ("deps: [input.txt", "deps: [data/summary, input.txt", "cycle"),
        ('seed: "${seeds}"}', 'seed: "${nothing}"}', "refers to 'nothing'"),
        ("    desc: Images\n", "    always_changed: true\n", "does not support 'always_changed'"),
    ],
)
def test_what_cannot_be_read_is_named(toy: Project, old: str, new: str, message: str) -> None:
    if old == "${train}":
        old, new = "params: [train,", 'params: ["${train.sped}",'
    toy.replace("dvc.yaml", old, new)
    with pytest.raises(GraphError, match=message):
        load_graph(toy.root)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("data/runs", "data/runs/a/0", True),
        ("data/run", "data/runs", False),
        ("a/b", "a/b", True),
        ("a/b/c", "a/d", False),
    ],
)
def test_overlap_is_by_whole_names(a: str, b: str, expected: bool) -> None:
    assert overlaps(a, b) is expected
    assert overlaps(b, a) is expected


def test_rows_become_options_as_dvc_writes_them() -> None:
    from dvc.parsing.interpolate import to_str

    row = {"name": "site_b", "root": "../si te's", "severity": [1, 2], "none": None, "yes": True, "no": False}
    row |= {"options": {"labels": "parent", "splits": {}, "deep": {"words": ["a b", "c"]}}, "share": 0.5, "empty": []}
    definition = {"cmd": "run ${item.row}", "matrix": {"row": "${rows}"}, "outs": ["${item.row.name}"]}
    (stage,) = stages_of({"stages": {"shift": definition}}, {"rows": [row]})
    assert stage.cmd == f"run {to_str(row)}"
    with pytest.raises(GraphError, match="a list in a list"):
        stages_of({"stages": {"shift": definition}}, {"rows": [row | {"severity": [[1]]}]})
    with pytest.raises(GraphError, match="must be text or a number"):
        stages_of({"stages": {"shift": definition | {"outs": ["${item.row}"]}}}, {"rows": [row]})
