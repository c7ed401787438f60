"""A sweep on a toy graph: experiments, a failing point, the folder untouched, verdicts, secrets."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pipeline.processes.git import git
from pipeline.sweeps.runner import run_sweep
from reprise.config.errors import GitError, ResultError, SweepError
from tests.pipeline.dvc_project import Project
from tests.pipeline.sweeps.conftest import file_hashes, log, plan

pytestmark = pytest.mark.xdist_group("sweeps")  # they share one project
PLAN = """
name: warmer
grid: {methods.simclr.temperature: [0.5, fail, wrong, 0.7]}
seeds: [0, 1, 2]
"""


@pytest.fixture(scope="module")
def done(shared: Project) -> tuple[Project, subprocess.CompletedProcess[str], dict[str, str], list[str]]:
    """The plan once through the command line: the project, what it said, the folder before, what ran."""
    shared.write("../plan.yaml", PLAN)
    before = file_hashes(shared)
    said = shared.reprise("sweep", "../plan.yaml", "--output", "../page.md", check=False)
    return shared, said, before, log(shared)


def test_a_failing_point_keeps_its_message_and_stops_nobody(done) -> None:
    _, said, _, ran = done
    assert said.returncode == 1
    assert said.stderr.strip() == "2 of 4 points failed"
    assert re.search(r"\[2/4\] .*temperature=\"fail\"\): failed in .*: the toy was told to fail", said.stdout)
    assert re.search(r"\[3/4\] .*temperature=\"wrong\"\): failed in .*: 1 wrong parameter", said.stdout)
    assert re.search(r"\[4/4\] .*temperature=0.7\): done in", said.stdout)
    # the random runs of seeds 1 and 2 were computed once, by the first point; seed 0 came with the first run
    assert [line for line in ran if "random" in line] == ["pretrain random 1", "pretrain random 2"]
    assert [line for line in ran if "simclr 0" in line] == ["pretrain simclr 0"]


def test_the_folder_is_as_it_was(done) -> None:
    project, _, before, _ = done
    assert file_hashes(project) == before
    assert project.call("git", "status", "--porcelain").stdout == ""
    assert "up to date" in project.reprise("repro").stdout
    assert log(project) == []


def test_points_are_experiments_that_dvc_knows(done) -> None:
    project, said, _, _ = done
    name = re.search(r"(warmer-\w+) \(methods.simclr.temperature=0.7\)", said.stdout)[1]
    listed = re.findall(r"\[(warmer-\w+)\]", project.dvc("exp", "list").stdout)
    assert len(listed) == 2
    assert name in listed
    ref = project.call("git", "for-each-ref", f"refs/exps/**/{name}", "--format=%(refname)").stdout.strip()
    assert "simclr: {temperature: 0.7}" in project.call("git", "show", f"{ref}:params.yaml").stdout
    assert project.call("git", "rev-parse", f"{ref}^").stdout == project.call("git", "rev-parse", "HEAD").stdout


@pytest.mark.slow
def test_what_is_done_is_not_run_again_and_the_rest_is_tried_again(done) -> None:
    project, _, _, _ = done
    again = project.reprise("sweep", "../plan.yaml", check=False).stdout
    assert again.count("done before") == 4  # once while it runs, once in the page
    assert again.count("told to fail") == 2
    assert log(project) == []
    listed = project.reprise("sweep", "../plan.yaml", "--list").stdout.splitlines()
    assert [line.rsplit(": ", 1)[1] for line in listed] == ["done before", "waiting", "waiting", "done before"]


def test_verdicts_follow_the_rules_of_the_report_and_are_about_val(done) -> None:
    project, _, _, _ = done
    page = (project.root / "../page.md").read_text()
    assert (
        "Its verdicts are about `knn.top1_val`; figures on test are\nshown, but points are not ranked by them." in page
    )
    rows = {tuple(line.split(" | ")[1:3]): line.split(" | ") for line in page.splitlines() if "knn" not in line}
    random = rows["methods.simclr.temperature=0.7", "random"]
    assert random[6] == "Not affected by these changes: every figure is the same."
    warmer = rows["methods.simclr.temperature=0.7", "simclr"]
    assert warmer[3] == "0: 0.7000 1: 0.7107 2: 0.7228"
    assert warmer[5] == "+0.2003"
    assert re.match(
        r"simclr at methods.simclr.temperature=0.7 is above simclr at methods.simclr.temperature=0.5 over 3 seeds by "
        r"0.2003; paired t, p &lt; 0.0001 after Holm over 1 pair.",
        warmer[6],
    )
    assert warmer[7].startswith("0.3556")  # the mean on test, half of it in this toy


@pytest.mark.slow
def test_forgotten_experiments_are_gone_and_come_back_from_the_cache(done) -> None:
    project, _, _, _ = done
    result = run_sweep(plan(points=[{"methods.simclr.temperature": 0.6}]), root=project.root, say=lambda line: None)
    log(project)
    project.write("../one.yaml", "name: warmer\npoints: [{methods.simclr.temperature: 0.6}]\n")
    assert project.reprise("sweep", "../one.yaml", "--forget").stdout == f"forgot {result.points[0].name}\n"
    assert result.points[0].name not in project.dvc("exp", "list").stdout
    again = run_sweep(plan(points=[{"methods.simclr.temperature": 0.6}]), root=project.root, say=lambda line: None)
    assert again.points[0].state == "done"
    assert log(project) == []


@pytest.mark.slow
def test_one_seed_gives_no_claim_and_a_metric_on_test_is_refused(done) -> None:
    project, _, _, _ = done
    points = [{"methods.simclr.temperature": 0.5}, {"methods.simclr.temperature": 0.7}]
    result = run_sweep(plan(points=points, seeds=[1], parallel=2), root=project.root, say=lambda line: None)
    assert [point.state for point in result.points] == ["done", "done"]
    assert "one seed cannot compare methods" in result.markdown()
    assert "is above" not in result.markdown()
    with pytest.raises(ResultError, match="must be decided on val"):
        run_sweep(plan(points=points, seeds=[1], metric="knn.top1"), root=project.root, say=lambda line: None)
    with pytest.raises(ResultError, match=r"no point has this metric.*knn.top1_val"):
        run_sweep(plan(points=points, seeds=[1], metric="knn.top5_val"), root=project.root, say=lambda line: None)


def test_uncommitted_changes_are_refused_but_not_those_of_results(fresh: Project) -> None:
    points = plan(points=[{}])
    fresh.replace("params.yaml", "seeds: [0]", "seeds: [1]")
    fresh.write("stages/new.py", "")
    with pytest.raises(SweepError) as refused:
        run_sweep(points, root=fresh.root, say=lambda line: None)
    assert "params.yaml, stages/new.py" in str(refused.value)
    (fresh.root / "stages/new.py").unlink()
    fresh.replace("params.yaml", "seeds: [1]", "seeds: [0]")
    fresh.write("metrics.json", "{}")
    fresh.write("source.lock.json", '{"other": 1}')  # the toy's scan writes {} again
    fresh.write("notes.txt", "untracked, and no input of a stage")
    assert run_sweep(points, root=fresh.root, say=lambda line: None).complete
    assert (fresh.root / "metrics.json").read_text() == "{}"


def test_no_commit_to_start_from(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="not in a git repository"):
        run_sweep(plan(points=[{}]), root=tmp_path, say=lambda line: None)
    git("init", "--quiet", cwd=tmp_path)
    with pytest.raises(SweepError, match="needs a git commit"):
        run_sweep(plan(points=[{}]), root=tmp_path, say=lambda line: None)


def test_secrets_stay_out_of_messages_and_logs(fresh: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "canary-in-a-message")
    lines: list[str] = []
    points = plan(points=[{"methods.simclr.temperature": "fail"}])
    result = run_sweep(points, root=fresh.root, say=lines.append, on_line=lines.append)
    assert "the toy was told to fail, password=***" in result.points[0].message
    written = [path.read_text() for path in (fresh.root / ".reprise/sweeps").rglob("log.txt")]
    assert len(written) == 1
    assert "canary-in-a-message" not in "".join([*lines, *written, result.markdown()])
