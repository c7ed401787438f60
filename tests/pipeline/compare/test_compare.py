"""Two revisions side by side and the gate, on a project whose figures are known."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.cli import main
from pipeline.compare.gate import judge
from pipeline.compare.revisions import Figure
from pipeline.compare.runs import compare_revisions, difference_interval
from reprise.artifacts.results import write_predictions
from reprise.config.errors import GraphError, ResultError
from tests.pipeline.dvc_project import Project, new_project

_GRAPH = """
stages:
  probe:
    matrix: {run: [simclr, random], seed: "${seeds}"}
    cmd: mkdir -p data/probe/${item.run} && cp -r given/${item.run}/${item.seed} data/probe/${item.run}/${item.seed}
    deps: ["given/${item.run}/${item.seed}"]
    outs: ["data/probe/${item.run}/${item.seed}"]
  summary:
    cmd: mkdir -p data/summary && cp given/table.csv data/summary/ && cp given/metrics.json .
    deps: [given/table.csv, given/metrics.json]
    outs: [data/summary]
    metrics: [metrics.json: {cache: false}]
"""
N = 200


def give(project: Project, accuracies: Mapping[str, Sequence[float]], prefix: str = "k") -> None:
    """Figures and answers: run -> accuracy a seed; the images answered rightly are the first ones."""
    rows = ["run,seed,probe,metric,value,low,high,n"]
    means: dict[str, dict[str, dict[str, float]]] = {}
    for run, values in accuracies.items():
        means[run] = {"knn": {"top1": float(np.mean(values)), "top1_val": float(np.mean(values))}}
        for seed, value in enumerate(values):
            for metric in ("top1", "top1_val"):
                rows.append(f"{run},{seed},knn,{metric},{value},{value - 0.03},{value + 0.03},{N}")
            right = np.arange(N) < round(value * N)
            table = pa.table(
                {
                    "key": [f"{prefix}{i:04d}" for i in range(N)],
                    "label": ["a"] * N,
                    "predicted": np.where(right, "a", "b").tolist(),
                    "correct": right.tolist(),
                    "score": pa.array([0.5] * N, pa.float32()),
                    "group": pa.nulls(N, pa.string()),
                }
            )
            write_predictions(project.root / f"given/{run}/{seed}/features/quality/predictions-knn.parquet", table)
    project.write("given/table.csv", "\n".join(rows) + "\n")
    project.write("given/metrics.json", json.dumps(means))
    project.write("params.yaml", f"seeds: {list(range(len(accuracies['simclr'])))}\nsummary: {{family: knn.top1}}\n")


@pytest.fixture(scope="session")
def _scored_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = new_project(tmp_path_factory.mktemp("compare") / "scored")
    project.write("dvc.yaml", _GRAPH)
    give(project, {"simclr": [0.8], "random": [0.5]})
    project.dvc("repro", "--quiet")
    project.commit()
    return project


@pytest.fixture
def scored(_scored_once: Project, tmp_path: Path) -> Project:
    """A project whose first commit has 0.8 for simclr and 0.5 for random; a copy for each test."""
    shutil.copytree(_scored_once.root, tmp_path / "scored", symlinks=True)
    return Project(tmp_path / "scored")


def test_one_seed_compares_models_by_their_answers(scored: Project) -> None:
    give(scored, {"simclr": [0.9], "random": [0.5]})
    scored.dvc("repro", "--quiet")
    rows = {(c.run, c.metric): c for c in compare_revisions("HEAD", root=scored.root).changes}
    simclr = rows["simclr", "knn.top1"]
    assert simclr.difference == pytest.approx(0.1)
    assert simclr.base_interval == (pytest.approx(0.77), pytest.approx(0.83))
    assert (
        "These two models differ: simclr at workspace above simclr at HEAD by 0.1000; exact McNemar" in simclr.verdict
    )
    assert "Holm over 2 pairs" in simclr.verdict
    assert rows["random", "knn.top1"].verdict.startswith("No difference shown")
    assert rows["simclr", "knn.top1_val"].verdict == ""  # not the stated family


def test_three_seeds_compare_methods(scored: Project) -> None:
    give(scored, {"simclr": [0.80, 0.81, 0.79], "random": [0.5, 0.5, 0.5]})
    scored.dvc("repro", "--quiet")
    scored.commit()
    give(scored, {"simclr": [0.90, 0.92, 0.88], "random": [0.5, 0.49, 0.51]})
    scored.dvc("repro", "--quiet")
    changes = compare_revisions("HEAD", metric="knn.top1_val", root=scored.root).changes
    assert [change.run for change in changes] == ["simclr", "random"]
    assert "simclr at workspace is above simclr at HEAD over 3 seeds by 0.1000; paired t" in changes[0].verdict
    assert "No difference shown" in changes[1].verdict
    ruling = judge("knn.top1_val", root=scored.root, runs=["simclr"]).rulings[0]
    assert ruling.over == "3 seeds"
    assert ruling.interval.low is not None and 0 < ruling.interval.low < 0.1


def test_other_test_images_do_not_pair(scored: Project) -> None:
    give(scored, {"simclr": [0.9], "random": [0.5]}, prefix="other")
    scored.dvc("repro", "--quiet")
    changes = {c.run: c for c in compare_revisions("HEAD", metric="knn.top1", root=scored.root).changes}
    assert changes["simclr"].verdict.startswith("No claim: the answers are to other images")


def test_added_and_removed_runs_have_one_side(scored: Project) -> None:
    text = json.loads((scored.root / "given/metrics.json").read_text())
    text["new"] = text.pop("random")
    scored.write("given/metrics.json", json.dumps(text))
    scored.dvc("repro", "--quiet")
    rows = {row[0]: row for row in compare_revisions("HEAD", metric="knn.top1", root=scored.root).rows()}
    assert rows["new"][2] == "-" and rows["new"][4] == ""
    assert rows["random"][3] == "-"


def test_without_the_cache_the_means_remain(scored: Project) -> None:
    scored.call("rm", "-r", ".dvc/cache", "data/summary", "data/probe")
    changes = {c.run: c for c in compare_revisions("HEAD", metric="knn.top1", root=scored.root).changes}
    assert changes["simclr"].base == 0.8
    assert changes["simclr"].verdict == ""


def test_figures_of_another_configuration_are_not_shown_as_the_folders(scored: Project) -> None:
    """One run's input is edited, and nothing runs: metrics.json is still the committed one."""
    scored.write("given/simclr/0/edited", "")
    rows = {row[0]: row for row in compare_revisions("HEAD", metric="knn.top1", root=scored.root).rows()}
    assert rows["simclr"][2:5] == ["0.8000 [0.7700, 0.8300]", "-", ""]
    assert "not computed from the present" in rows["simclr"][6] and "given/simclr/0 is modified" in rows["simclr"][6]
    assert rows["random"][3] == "0.5000 [0.4700, 0.5300]"
    with pytest.raises(ResultError, match=r"simclr: probe simclr seed 0: given/simclr/0 is modified"):
        judge("knn.top1_val", root=scored.root)
    scored.write("metrics.json", (scored.root / "metrics.json").read_text().replace("0.8", "0.9"))
    with pytest.raises(ResultError, match=r"all runs: summary: metrics.json is modified"):
        judge("knn.top1_val", root=scored.root)


def test_a_clone_has_the_figures_of_its_commit_until_something_changes(scored: Project, tmp_path: Path) -> None:
    """Outputs and cache are missing there, but dvc.lock says that the committed figures belong to what is there."""
    scored.call("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    assert judge("knn.top1_val", root=clone.root).passed
    clone.write("given/random/0/edited", "")
    with pytest.raises(ResultError, match="random: probe random seed 0"):
        judge("knn.top1_val", root=clone.root)


def test_the_gate_on_the_command_line(
    scored: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a process where it fails; the other calls are made in this one."""

    def reprise(*words: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["reprise", *words])
        with pytest.raises(SystemExit) as ended:
            main.main()
        assert not ended.value.code
        return capsys.readouterr().out.splitlines()

    monkeypatch.chdir(scored.root)
    give(scored, {"simclr": [0.78], "random": [0.3]})
    scored.dvc("repro", "--quiet")
    failed = scored.reprise("gate", "knn.top1_val", check=False)
    assert failed.returncode == 3
    assert (
        "simclr: knn.top1_val 0.8000 -> 0.7800, -0.0200 [-0.0624, +0.0224] over examples, unpaired: passes"
        in failed.stdout
    )
    assert (
        "random: knn.top1_val 0.5000 -> 0.3000, -0.2000 [-0.2424, -0.1576] over examples, unpaired: FAILS"
        in failed.stdout
    )
    assert reprise("gate", "knn.top1_val", "--run", "simclr")[-1].startswith("gate passed")
    assert reprise("gate", "knn.top1_val", "--run", "random", "--margin", "0.16")[-1].startswith("gate passed")
    table = reprise("compare", "HEAD", "--metric", "knn.top1")
    columns = ["run", "metric", "HEAD", "workspace", "difference", "its interval", "verdict"]
    assert table[0].split("\t") == columns
    assert table[1].split("\t")[2:5] == ["0.8000 [0.7700, 0.8300]", "0.7800 [0.7500, 0.8100]", "-0.0200"]


@pytest.mark.parametrize("revision", ["no-such-branch", "--output=x", "HEAD; touch made", ""])
def test_unknown_revisions_are_a_sentence(scored: Project, revision: str) -> None:
    with pytest.raises(GraphError, match="git knows no such revision"):
        compare_revisions(revision, root=scored.root)
    assert not (scored.root / "made").exists()


def test_unknown_metrics_and_runs_name_what_there_is(scored: Project) -> None:
    with pytest.raises(ResultError, match="Use one of: knn.top1, knn.top1_val"):
        compare_revisions("HEAD", metric="knn.top5", root=scored.root)
    with pytest.raises(ResultError, match="no common value for simcrl"):
        judge("knn.top1", runs=["simcrl"], root=scored.root)
    scored.call("git", "rm", "-q", "--cached", "metrics.json")
    scored.call("git", "commit", "-q", "-m", "without metrics")
    with pytest.raises(ResultError, match="this revision holds no metrics"):
        judge("knn.top1", root=scored.root)
    (scored.root / "metrics.json").unlink()
    with pytest.raises(ResultError, match="there are no metrics yet"):
        compare_revisions("workspace", root=scored.root)


def test_newcombe_against_a_simulation() -> None:
    """The interval of a difference of two independent shares covers the truth about as often as it says."""
    from reprise.measures.statistics import wilson

    rng = np.random.default_rng(0)
    p0, p1, n, covered = 0.8, 0.7, 150, 0
    draws = 2000
    for a, b in zip(rng.binomial(n, p0, draws), rng.binomial(n, p1, draws), strict=True):
        low, high = difference_interval(Figure(a / n, *wilson(int(a), n)), Figure(b / n, *wilson(int(b), n)))
        assert low is not None and high is not None
        covered += low <= p1 - p0 <= high
    assert 0.935 <= covered / draws <= 0.97
