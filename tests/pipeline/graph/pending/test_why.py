from __future__ import annotations

import json

from pipeline.graph.definition import load_graph
from pipeline.graph.pending.why import explain
from tests.pipeline.dvc_project import Project


def test_nothing_changed(built: Project) -> None:
    assert built.reprise("why").stdout == "Nothing would run: everything is up to date.\n"


def test_a_parameter_names_its_values_and_what_follows(built: Project) -> None:
    built.replace("params.yaml", "temperature: 0.5", "temperature: 0.25")
    assert built.reprise("why").stdout.splitlines() == [
        "Would run (or be restored from the cache):",
        "  pretrain simclr seed 0",
        "      methods.simclr.temperature: 0.5 -> 0.25",
        "Would follow, if the outputs of these change:",
        "  probe simclr seed 0: reads pretrain simclr seed 0",
        "  summary: reads probe simclr seed 0",
    ]


def test_targets_leave_out_the_rest(built: Project) -> None:
    built.replace("params.yaml", "rate: 0.1", "rate: 0.2")
    said = built.reprise("why", "pretrain random").stdout
    assert "pretrain random seed 0\n      train.rate: 0.1 -> 0.2" in said
    assert "simclr" not in said
    assert "summary" not in said


def test_files_outputs_rows_and_first_runs(built: Project) -> None:
    built.write("methods/random.py", "10")
    (built.root / "data/probe/simclr/0/features/x").unlink()
    built.replace("params.yaml", "  - {name: simclr", "  - {name: middle, method: random}\n  - {name: simclr")
    built.replace("params.yaml", "random: {},", "random: {}, middle: {},")
    before = built.lock()
    said = built.reprise("why").stdout
    assert "  pretrain random seed 0\n      methods/random.py changed\n" in said
    assert "its output data/probe/simclr/0/features changed" in said
    assert "  pretrain middle seed 0\n      it has no entry in dvc.lock: it has not run here yet\n" in said
    assert "  summary\n      runs: added middle\n" in said
    assert "  pretrain simclr seed 0" not in said  # its row moved and nothing else
    assert built.lock() == before


def test_a_change_made_above_is_not_told_twice(built: Project) -> None:
    """DVC names data/runs/... as modified in the probe when only the folder above it was touched by hand."""
    (built.root / "data/runs/simclr/0/x").write_text("by hand")
    said = built.reprise("why").stdout
    assert "  pretrain simclr seed 0\n      its output data/runs/simclr/0 changed\n" in said
    assert "  probe simclr seed 0: reads pretrain simclr seed 0\n" in said


def test_runs_lists_states(built: Project) -> None:
    built.write("methods/simclr.py", "20")
    rows = [line.split("\t") for line in built.reprise("runs").stdout.splitlines()]
    assert rows[0] == ["stage", "DVC's name", "state"]
    states = {row[0]: row[2] for row in rows[1:]}
    assert states["pretrain simclr seed 0"] == "changed"
    assert states["probe simclr seed 0"] == "depends on a change"
    assert states["pretrain random seed 0"] == "up to date"


def test_unknown_words_of_dvc_are_passed_on(built: Project) -> None:
    graph = load_graph(built.root)
    status = {"shard": [{"changed deps": {"input.txt": "mangled"}}, "always changed"]}
    explained = explain(graph, json.loads(json.dumps(status)), {"shard": {"cmd": "x"}}, {})
    assert explained.now[0].changes == ("input.txt mangled", "dvc.yaml says that it always runs")
