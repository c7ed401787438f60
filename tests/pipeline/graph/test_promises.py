"""What Reprise promises about reruns, on the real graph: one run is shared, and each test works on a copy of it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.graph.definition import load_graph
from pipeline.graph.lock_file import read_lock
from pipeline.processes.commands import environment, run
from tests.pipeline.dvc_project import Project
from tests.pipeline.real_project import add_run, edit_params, real_project, remove_run

pytestmark = pytest.mark.xdist_group("graph")  # one worker runs the real graph once, and nobody waits for it

SUMMED_UP = ["report", "representations", "summary"]


def ran(said: str) -> list[str]:
    """DVC's names of the stages whose command ran; `check` runs whenever params.yaml changes and changes nothing."""
    return sorted(name for name in re.findall(r"Running stage '([^']+)'", said) if name != "check")


def changed(project: Project) -> list[str]:
    """Titles of the stages whose own dependencies changed, without `check`."""
    lines = project.reprise("why").stdout.splitlines()
    header = "Would follow, if the outputs of these change:"  # absent where nothing follows, as after the report
    if lines == ["Nothing would run: everything is up to date."]:
        return []
    now = lines[1 : lines.index(header) if header in lines else len(lines)]
    return sorted(line.strip() for line in now if re.match(r"  \S", line) and not line.startswith("  check "))


def followers(project: Project) -> list[str]:
    lines = project.reprise("why").stdout.splitlines()
    then = lines[lines.index("Would follow, if the outputs of these change:") + 1 :]
    return sorted(line.split(":")[0].strip() for line in then)


# ---- 1: the second run -----------------------------------------------------------------------------------


def test_the_second_run_does_nothing_and_is_fast(real: Project) -> None:
    before = real.lock()
    began = os.times()
    said = real.dvc("--wait-for-lock", "repro").stdout
    ended = os.times()
    assert "Running stage" not in said
    # Seconds of a processor, not of a clock: those do not depend on what else the machine does.
    assert ended.children_user + ended.children_system - began.children_user - began.children_system < 3
    assert real.lock() == before
    assert real.reprise("why").stdout == "Nothing would run: everything is up to date.\n"


# ---- 2: only what depends on a change --------------------------------------------------------------------


def add(project: Project, name: str, text: str, where: str = "stages") -> None:
    """Append to the file of this name below `where`."""
    (path,) = (project.root / where).rglob(name)
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def comment_everywhere(project: Project) -> None:
    for path in [*(project.root / "stages").rglob("*.py"), *(project.root / "reprise").rglob("*.py")]:
        path.write_text("# a comment\n" + path.read_text(encoding="utf-8"), encoding="utf-8")


REAL = "\n\nADDED = 1\n"


GSIMCLR = ["pretrain gsimclr seed 0"]
PROBES = ["probe gsimclr seed 0", "probe random seed 0"]


def test_changes_touch_what_uses_them_and_comments_touch_nothing(real: Project) -> None:
    """One question to DVC about four changes whose stages differ; the slow test below asks about each alone."""
    comment_everywhere(real)
    edit_params(real, model_options__dae__noise=0.02, validate__min_classes=3)
    add(real, "gsimclr.py", REAL)
    add(real, "map.py", REAL, "stages/probe")
    assert changed(real) == sorted(["train_models seed 0", "validate", *GSIMCLR, *PROBES])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda p: edit_params(p, methods__gsimclr__temperature=0.3), GSIMCLR),
        (comment_everywhere, []),
        (lambda p: add(p, "gsimclr.py", REAL), GSIMCLR),
        (lambda p: edit_params(p, probes__quality__knn__k=10), PROBES),
        (lambda p: add(p, "map.py", REAL, "stages/probe"), PROBES),
        (lambda p: edit_params(p, mining__dae_kmeans__clusters=48), ["mine dae_kmeans seed 0"]),
        (lambda p: edit_params(p, model_options__dae__noise=0.02), ["train_models seed 0"]),
        (lambda p: edit_params(p, report__samples=24), ["report"]),
        (lambda p: add(p, "text.py", REAL, "stages/report"), ["report"]),
        (lambda p: edit_params(p, validate__min_classes=3), ["validate"]),
        (lambda p: edit_params(p, train__epochs=2), [*GSIMCLR, "pretrain random seed 0"]),
    ],
    ids=[
        "method",
        "comment",
        "method-file",
        "probe",
        "probe-file",
        "mining",
        "model",
        "report",
        "report-file",
        "validate",
        "budget",
    ],
)
def test_a_change_touches_what_uses_it(real: Project, change: Callable[[Project], None], expected: list[str]) -> None:
    change(real)
    assert changed(real) == sorted(expected)


def test_mining_leads_to_the_runs_that_use_it(real: Project) -> None:
    edit_params(real, mining__dae_kmeans__clusters=48)
    assert followers(real) == sorted(
        [
            *GSIMCLR,
            "embed gsimclr seed 0",
            "probe gsimclr seed 0",
            *SUMMED_UP,
        ]
    )


@pytest.mark.slow
def test_a_new_run_and_a_new_seed_touch_only_themselves(real: Project) -> None:
    add_run(real, "simclr", labels="none")
    of_run = [f"{stage} simclr seed 0" for stage in ("pretrain", "embed", "probe")]
    of_run += ["representations", "summary"]
    assert changed(real) == sorted(of_run)
    edit_params(real, seeds=[0, 1])
    new = set(changed(real)) - set(of_run) - {"given_labels"}  # which writes a copy for each seed
    assert new
    assert all("seed 1" in title for title in new)


@pytest.mark.slow
def test_a_method_s_parameter_reruns_its_run_and_a_removed_run_leaves_nothing(real: Project) -> None:
    """2 and 8, for real."""
    random = (real.root / "data/embed/random/0/embeddings.parquet").read_bytes()
    edit_params(real, methods__gsimclr__temperature=0.3)
    graph = load_graph(real.root)
    own = graph.find(["pretrain/gsimclr", "embed/gsimclr", "probe/gsimclr"])
    assert ran(real.reprise("repro").stdout) == sorted([*own, *SUMMED_UP])
    assert (real.root / "data/embed/random/0/embeddings.parquet").read_bytes() == random

    remove_run(real, "gsimclr")
    assert ran(real.reprise("repro").stdout) == SUMMED_UP
    left = [path for path in (real.root / "data").rglob("*gsimclr*") if "validation_docs" not in path.parts]
    assert left == []
    assert "gsimclr" not in real.lock().decode()
    assert set(json.loads((real.root / "metrics.json").read_text())) == {"random"}


@pytest.mark.slow
def test_inside_a_stage_an_unchanged_probe_is_not_computed_again(real: Project) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in (real.root / ".reprise/probes").iterdir()}
    linear = json.loads((real.root / "data/probe/random/0/features/quality/metrics.json").read_text())["linear"]
    edit_params(real, probes__quality__knn__k=10)
    assert ran(real.reprise("repro", "probe/random/0").stdout) == load_graph(real.root).find(["probe/random/0"])
    after = [path.name for path in (real.root / ".reprise/probes").iterdir()]
    assert len(set(after) - set(before)) == 1  # knn's new result; linear came from the old one
    assert json.loads((real.root / "data/probe/random/0/features/quality/metrics.json").read_text())["linear"] == linear


# ---- 3: nothing twice ------------------------------------------------------------------------------------


def test_every_stage_ran_once_and_features_are_shared(first_run: tuple[Project, str]) -> None:
    project, said = first_run
    names = re.findall(r"Running stage '([^']+)'", said)
    assert sorted(names) == sorted(load_graph(project.root).by_name)


# ---- 4 and 6: a stage is a function of what it declares --------------------------------------------------

SAMPLES = ("check", "ingest", "validate", "shard", "features/dae", "mine/dae_kmeans", "pretrain/gsimclr",
           "embed/gsimclr", "probe/gsimclr", "representations", "summary", "report")  # fmt: skip


@pytest.mark.parametrize("target", SAMPLES)
def test_with_only_its_declared_dependencies_a_stage_writes_the_same_bytes(
    first_run: tuple[Project, str], tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code, data: whatever a stage reads without declaring it is not there."""
    source = first_run[0].root
    graph = load_graph(source)
    stage = graph.by_name[graph.find([target])[0]]
    for package in ("stages", "reprise"):
        for file in (source / package).rglob("__init__.py"):
            _copy(file, tmp_path / file.relative_to(source))
    code = [json.loads((source / dep).read_text()) for dep in stage.deps if dep.startswith("data/code/")]
    for dep in (*stage.deps, *(file for files in code for file in files), "params.yaml", "stages/run.py"):
        _copy(source / dep, tmp_path / dep)
    lines: list[str] = []
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    command = [environment()["PATH"].split(":")[0] + "/python", *stage.cmd.split()[1:]]
    assert run(command, cwd=tmp_path, on_line=lines.append) == 0, "\n".join(lines[-15:])
    for out in stage.outs:
        assert _bytes(tmp_path / out) == _bytes(source / out), out


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def _bytes(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file() and p.name != ".gitignore"]
    assert files, path
    return {str(p.relative_to(path)): p.read_bytes() for p in files}


@pytest.mark.slow
def test_from_nothing_twice_the_same_lock(first_run: tuple[Project, str], tmp_path: Path, repository: Path) -> None:
    """4, whole: another folder, an empty cache, and dvc.lock is the same file."""
    again = real_project(tmp_path / "elsewhere", repository)
    again.reprise("repro")
    assert again.lock() == first_run[0].lock()


# ---- 7: references ---------------------------------------------------------------------------------------


def test_references_are_runs_like_any_other(first_run: tuple[Project, str], repository: Path) -> None:
    from reprise.config.params import read_yaml

    listed = {row["name"]: row for row in read_yaml(repository / "params.yaml")["runs"]}
    assert listed["random"]["labels"] == "none"
    assert listed["supervised"]["labels"] == "truth"
    metrics = json.loads((first_run[0].root / "metrics.json").read_text())
    assert metrics["random"].keys() == metrics["gsimclr"].keys()


def test_the_lock_names_every_stage_with_the_command_of_the_graph(first_run: tuple[Project, str]) -> None:
    """Our reading of dvc.yaml and DVC's own, field by field."""
    root = first_run[0].root
    entries = read_lock(root)
    for stage in load_graph(root).stages:
        entry = entries[stage.name]
        assert entry["cmd"] == stage.cmd
        assert sorted(dep["path"] for dep in entry.get("deps", [])) == sorted(stage.deps)
        assert sorted(out["path"] for out in entry["outs"]) == sorted(stage.outs)
        assert sorted(entry.get("params", {}).get("params.yaml", {})) == sorted(stage.params)
