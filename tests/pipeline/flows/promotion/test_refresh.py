"""Nights of `refresh` with promotion on the real graph: first, nothing new, other parameters, drift, broken, worse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.processes.git import git
from tests.faults.reduced import one_run, read, write
from tests.pipeline.cli.answers import strict, undeclared
from tests.pipeline.cli.test_json import fields_of
from tests.pipeline.dvc_project import Project

pytestmark = [pytest.mark.xdist_group("flows"), pytest.mark.slow]
CLASSES = "0123456789"


def add_images(folder: Path, start: int, stop: int, factor: float = 1.0, classes: str = CLASSES) -> None:
    """Digits as PNG files, in a folder a class; in a drawn order, because the data set is sorted by writer: a drift."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for place in np.random.default_rng(0).permutation(len(digits.target))[start:stop]:
        label = str(digits.target[place])
        if label in classes:
            (folder / label).mkdir(parents=True, exist_ok=True)
            pixels = np.rint(40 + digits.images[place] * 200 / 16) * factor
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{place}.png")


def project_of(root: Path, repository: Path, epochs: int, images: int) -> Project:
    project = one_run(root, repository, epochs=epochs)
    (root / "pipeline").symlink_to(repository / "pipeline", target_is_directory=True)
    add_images(root.with_name("images"), 0, images)
    params = read(root / "params.yaml")
    params["source"] |= {"name": "folder", "root": str(root.with_name("images"))}
    write(root / "params.yaml", params)
    project.commit("own images")
    return project


@pytest.fixture
def nights(tmp_path: Path, repository: Path, _import_path: None) -> Project:
    return project_of(tmp_path / "project", repository, epochs=2, images=700)


@pytest.fixture
def judged(tmp_path: Path, repository: Path, _import_path: None) -> Project:
    """A project whose run learns from true labels, with many val images."""
    project = project_of(tmp_path / "project", repository, epochs=60, images=1500)
    params = read(project.root / "params.yaml")
    params["source"]["val_fraction"] = 0.25
    params["runs"] = [{"name": "simclr", "method": "supervised", "labels": "truth"}]
    params["methods"] = {"simclr": {}}
    write(project.root / "params.yaml", params)
    project.commit("true labels")
    return project


def night(project: Project, *options: str) -> tuple[int, str]:
    """Run the flow; its status and what it said."""
    done = project.reprise("flows", "run", "refresh", "--promote", "simclr", *options, check=False)
    return done.returncode, f"{done.stdout}{done.stderr}"


def tags(project: Project) -> list[str]:
    return git("tag", "--list", cwd=project.root).split()


def test_nights(nights: Project) -> None:
    root, images = nights.root, nights.root.with_name("images")
    head = git("rev-parse", "HEAD", cwd=root)
    status, said = night(nights)
    assert status == 0, said
    assert tags(nights) == ["simclr@v1.0.0"]
    assert "nothing to compare with" in said

    status, said = night(nights)
    assert (status, "the source has not changed" in said) == (0, True), said
    assert "Running stage" not in said
    assert tags(nights) == ["simclr@v1.0.0"]

    add_images(images, 700, 900)
    params = read(root / "params.yaml")
    params["methods"]["simclr"]["temperature"] = 0.22
    write(root / "params.yaml", params)
    status, said = night(nights)
    assert status == 0, said
    assert "No drift" in said
    assert "kNN on val" in said
    assert tags(nights) == ["simclr@v1.0.0", "simclr@v2.0.0"]
    figures = [json.loads(git("show", f"simclr@v{n}.0.0:metrics.json", cwd=root)) for n in (1, 2)]
    assert figures[0] != figures[1]

    ran = (root / "dvc.lock").read_bytes()
    add_images(images, 900, 1100, factor=0.4, classes="01234")
    status, said = night(nights)
    assert status == 3
    assert "Drift: the new images differ from the others in class shares" in said
    assert "brightness" in said
    assert "Nothing was trained" in said
    lines = [line for line in ran.decode().splitlines() if "pretrain" in line]
    assert lines == [line for line in nights.lock().decode().splitlines() if "pretrain" in line]
    status, said = night(nights)
    assert (status, "the source has not changed" in said) == (0, True), said  # it was told once

    for number in range(40):
        (images / "0" / f"broken {number}.png").write_text("no image")
    params = read(root / "params.yaml")
    params["validate"]["max_quarantined"] = 0.01
    write(root / "params.yaml", params)
    status, said = night(nights, "--on-drift", "tell")
    assert status == 1
    assert "quarantine" in said
    assert tags(nights) == ["simclr@v1.0.0", "simclr@v2.0.0"]
    assert git("rev-parse", "HEAD", cwd=root) == head
    what_the_history_says(nights)


def what_the_history_says(nights: Project) -> None:
    """Two nights with figures, the parameter that changed between them, both versions, and both refused nights."""
    root = nights.root
    done = nights.reprise("history", "--json", "--page", "history.html")
    found = strict(done.stdout)
    assert undeclared(found, fields_of("history")) == []
    points = [point for point in found["points"] if point["kind"] == "night"]
    assert len(points) == 2
    assert points[1]["images_changed"] is True
    assert [(p["name"], p["old"], p["new"]) for p in points[1]["parameters"]] == [
        ("methods.simclr.temperature", 0.2, 0.22)
    ]
    outcomes = [(outcome["kind"], outcome["name"]) for outcome in found["outcomes"]]
    versions = [("promoted", "simclr@v1.0.0"), ("promoted", "simclr@v2.0.0")]
    assert outcomes == [*versions, ("refused", "Drift"), ("refused", "Failed")]
    why = [outcome["message"] for outcome in found["outcomes"]]
    assert "nothing to compare with" in why[0]
    assert "The challenger is not worse than simclr@v1.0.0" in why[1]
    assert "the new images differ from the others in class shares" in why[2]
    assert "quarantine" in why[3]
    page = (root / "history.html").read_text(encoding="utf-8")
    assert all(words in page for words in ("simclr@v1.0.0", "simclr@v2.0.0", "Drift", "quarantine", "temperature"))
    shown = nights.reprise("history").stdout
    assert "promoted simclr@v2.0.0" in shown and "refused Drift" in shown


def test_a_worse_challenger_is_held(judged: Project) -> None:
    """An untrained network against one that has seen the true labels."""
    root = judged.root
    status, said = night(judged)
    assert (status, tags(judged)) == (0, ["simclr@v1.0.0"]), said

    params = read(root / "params.yaml")
    params["runs"] = [{"name": "simclr", "method": "random", "labels": "none"}]
    write(root / "params.yaml", params)
    status, said = night(judged)
    assert status == 3, said
    assert "The challenger is worse than simclr@v1.0.0 by more than 0 with a whole interval" in said
    status, again = night(judged)
    assert (status, "the source has not changed" in again) == (0, True), again  # it was told once
    assert tags(judged) == ["simclr@v1.0.0"]
    outcomes = strict(judged.reprise("history", "--json").stdout)["outcomes"]
    assert [(outcome["kind"], outcome["name"]) for outcome in outcomes] == [
        ("promoted", "simclr@v1.0.0"),
        ("refused", "Held"),
    ]
    assert "The challenger is worse than simclr@v1.0.0" in outcomes[1]["message"]

    params["runs"] = [{"name": "simclr", "method": "supervised", "labels": "truth"}]
    params["train"]["epochs"] = 61
    write(root / "params.yaml", params)
    status, said = night(judged)
    assert (status, tags(judged)) == (0, ["simclr@v1.0.0", "simclr@v2.0.0"]), said
