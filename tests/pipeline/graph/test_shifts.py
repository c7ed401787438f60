"""Shifts on the real graph: each row has its stages, runs what changed and no more, and leaves nothing behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.sweeps.clone import Base, PointClone
from pipeline.sweeps.plans import Point
from reprise.config.params import read_yaml
from tests.pipeline.dvc_project import Project
from tests.pipeline.real_project import real_project

FOG = {"name": "fog", "shift": "fog", "severity": [1, 5]}
SITE = {"name": "site_b", "shift": "folder", "root": "../site b's"}
SUITE = {"shifted_knn": {}, "shift_distance": {}}


def configure(project: Project, *rows: dict[str, object]) -> None:
    path = project.root / "params.yaml"
    raw = read_yaml(path)
    raw["shifts"], raw["shift_suites"] = list(rows), [{"name": "shift"}] if rows else []
    raw["shift_probes"] = {"shift": SUITE} if rows else {}
    raw["runs"] = [row for row in raw["runs"] if row["name"] == "random"]
    raw["methods"] = {"random": {}}
    raw |= {"mines": [], "mining": {}, "features": [], "extractors": {}, "models": [], "model_options": {}}
    path.write_text(json.dumps(raw), encoding="utf-8")  # JSON is YAML


def other_site(folder: Path) -> None:
    """Digits that a darker camera took."""
    digits = load_digits()
    for i in range(120):
        path = folder / str(digits.target[i]) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[i] * 9 + i % 7).astype(np.uint8)).save(path)


def ran(said: str) -> list[str]:
    return [name for name in re.findall(r"Running stage '([^']+)'", said) if name != "check"]


@pytest.mark.slow
def test_shifts_from_end_to_end(tmp_path: Path, repository: Path) -> None:
    project = real_project(tmp_path / "project", repository)
    other_site(tmp_path / "site b's")
    configure(project)
    project.reprise("repro", "probe")
    configure(project, FOG)
    first = ran(project.reprise("repro", "probe_shifts", "summary").stdout)
    assert [name for name in first if "shift" in name] == [
        "shift_images@shift0",
        "embed_shift@shift0",
        "probe_shifts@suite0",
    ]
    assert not [name for name in first if name.startswith(("pretrain", "embed@", "probe@"))]  # nothing else is touched
    metrics = json.loads((project.root / "metrics.json").read_text())["random"]
    assert metrics["shifted_knn"].keys() == {"clean", "top1_fog1", "top1_fog5", "drop_fog1", "drop_fog5"}
    assert metrics["shifted_knn"]["top1_fog5"] < metrics["shifted_knn"]["top1_fog1"] < metrics["shifted_knn"]["clean"]
    assert ran(project.reprise("repro", "probe_shifts", "summary").stdout) == []

    configure(project, FOG, SITE)
    said = project.reprise("repro", "probe_shifts").stdout
    assert [name for name in ran(said) if not name.startswith("shift_images")] == [
        "embed_shift@shift1",
        "probe_shifts@suite0",
    ]
    assert "120 images are scored, of 10 of the 10 classes" in said
    (tmp_path / "site b's/3/3.png").unlink()
    again = ran(project.reprise("repro", "probe_shifts").stdout)
    assert "embed_shift@shift1" in again  # what the folder holds is seen
    assert "embed_shift@shift0" not in again

    configure(project, SITE)
    project.reprise("prune")
    assert not (project.root / "data/shifts/fog").exists()
    assert (project.root / "data/shifts/site_b/images").is_dir()
    configure(project)
    project.reprise("prune")
    assert not list((project.root / "data/shifts").glob("*"))
    assert not (project.root / "data/probe/_shifts/shift").exists()


def test_a_sweep_s_clone_finds_the_folders_of_shifts(tmp_path: Path) -> None:
    clone = PointClone(Base(tmp_path, "c" * 40, "", ""), Point("a", {}, ""), tmp_path / "cache")
    clone.project.mkdir(parents=True)
    rows = [FOG, SITE, {"name": "inside", "shift": "folder", "root": "data/inside"}, "no row"]
    (clone.project / "params.yaml").write_text(json.dumps({"source": {"root": "data/images"}, "shifts": rows}))
    for name in ("images", "inside"):
        (tmp_path / "data" / name).mkdir(parents=True)
    clone._link_source()
    for name in ("images", "inside"):
        assert (clone.project / "data" / name).resolve() == tmp_path / "data" / name
    assert sorted(path.name for path in clone.project.iterdir()) == ["data", "params.yaml"]
