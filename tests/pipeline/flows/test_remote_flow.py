"""Flows and a DVC remote: what one folder made, another restores; an unreachable remote stops no computing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.pipeline.dvc_project import Project
from tests.pipeline.flows.test_served import EVERYTHING, STAGES
from tests.pipeline.flows.toy import Prefect

pytestmark = [pytest.mark.xdist_group("flows"), pytest.mark.slow]


def elsewhere(project: Project, root: Path) -> Project:
    """The project's files in another folder, without results and without what DVC knows of them."""
    left = shutil.ignore_patterns("cache", "tmp", ".reprise", "dvc.lock", "ran.log", "metrics.json")
    shutil.copytree(project.root, root, symlinks=True, ignore=left)
    shutil.rmtree(root / "data")
    project = Project(root)
    project.write("data/.gitignore", "*\n!.gitignore\n")
    return project


def test_another_folder_restores_what_one_has_made(prefect: Prefect, toy: Project, tmp_path: Path) -> None:
    toy.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    first = prefect.run_of_command(toy.reprise("flows", "run", "reproduce"))
    tasks = prefect.await_tasks(first["id"], ["push", *STAGES])
    assert tasks["push"][0] == "Completed"
    assert "sent to 'store'" in tasks["push"][1]
    assert toy.ran() == EVERYTHING

    again = prefect.run_of_command(toy.reprise("flows", "run", "reproduce"))
    assert "push" not in prefect.await_tasks(again["id"], STAGES)  # it was sent already

    other = elsewhere(toy, tmp_path / "other")
    second = prefect.run_of_command(other.reprise("flows", "run", "reproduce"))
    tasks = prefect.await_tasks(second["id"], ["pull", *STAGES])
    assert tasks["pull"][0] == "Completed"
    # Metrics are kept in git, which this folder has not: only what writes them runs.
    restored = {name: "Restored" for name in STAGES if name != "summary"}
    assert {name: tasks[name][0] for name in STAGES} == {**restored, "summary": "Ran"}
    assert other.ran() == ["summary"]
    assert other.lock() == toy.lock()


def test_what_could_not_be_sent_is_said_and_sent_by_the_next_run(
    prefect: Prefect, toy: Project, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.write_text("a file stands where the remote should be")
    toy.dvc("remote", "add", "--default", "store", str(store))
    done = toy.reprise("flows", "run", "reproduce", check=False)
    assert done.returncode == 1
    assert "but the results were not sent" in done.stderr
    assert toy.ran() == EVERYTHING
    store.unlink()
    again = prefect.run_of_command(toy.reprise("flows", "run", "reproduce"))
    tasks = prefect.await_tasks(again["id"], ["push", *STAGES])
    assert tasks["push"][0] == "Completed"
    assert {tasks[name][0] for name in STAGES} == {"Cached"}
