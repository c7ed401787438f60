"""A point's clone finds the source's files where the project has them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.sweeps.clone import PointClone


@pytest.mark.parametrize(
    ("root", "linked"),
    [
        ("pictures", ["pictures"]),
        ("shards/train-{0..1}.tar", ["shards/train-0.tar", "shards/train-1.tar"]),
        ("s3://bucket/train-{0..1}.tar", []),
        ("../shards/train-{0..1}.tar", []),
        ("train-{0..", []),
    ],
)
def test_a_root_or_the_shards_of_a_pattern_are_linked(tmp_path: Path, root: str, linked: list[str]) -> None:
    for name in ("pictures/1.png", "shards/train-0.tar", "shards/train-1.tar"):
        (tmp_path / "base" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "base" / name).touch()
    project = tmp_path / "project"
    project.mkdir()
    (project / "params.yaml").write_text(f"source:\n  root: '{root}'\n", encoding="utf-8")
    clone: Any = SimpleNamespace(project=project, base=SimpleNamespace(root=tmp_path / "base"))
    PointClone._link_source(clone)
    links = [path for path in project.rglob("*") if path.is_symlink()]
    assert sorted(str(path.relative_to(project)) for path in links) == linked
    assert all(path.resolve() == tmp_path / "base" / path.relative_to(project) for path in links)
