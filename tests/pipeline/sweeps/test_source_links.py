"""A point's clone finds the source's files where the project has them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.sweeps.clone import PointClone


def clone_of(folder: Path, source: str) -> Path:
    """The folder of a clone whose params.yaml has this block, after its links were made."""
    project = folder / "project"
    project.mkdir()
    (project / "params.yaml").write_text(f"source: {source}\n", encoding="utf-8")
    clone: Any = SimpleNamespace(project=project, base=SimpleNamespace(root=folder / "base"))
    PointClone._link_source(clone)
    return project


def test_files_that_a_table_or_an_option_names_are_there(tmp_path: Path) -> None:
    for name in ("birds/t.csv", "birds/1.png", "birds/more/2.png", "birds/.hidden", "names.txt", "masks/1.png"):
        (tmp_path / "base" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "base" / name).touch()
    options = "{base: masks, list: [names.txt, ../out, '.', ''], label: kind}"
    project = clone_of(tmp_path, f"{{root: birds/t.csv, options: {options}}}")
    links = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_symlink()}
    assert links == {"birds", "names.txt", "masks"}


def test_files_beside_a_table_are_linked_one_by_one_where_git_holds_some(tmp_path: Path) -> None:
    for name in ("t.csv", "1.png", "more/2.png", ".hidden", "params.yaml"):
        (tmp_path / "base" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "base" / name).touch()
    project = clone_of(tmp_path, "{root: t.csv}")
    links = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_symlink()}
    assert links == {"t.csv", "1.png", "more"}


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
    project = clone_of(tmp_path, f"{{root: '{root}'}}")
    links = [path for path in project.rglob("*") if path.is_symlink()]
    assert sorted(str(path.relative_to(project)) for path in links) == linked
    assert all(path.resolve() == tmp_path / "base" / path.relative_to(project) for path in links)
