"""When data/ingest may be looked at: only while it is of the present source, parameters and code."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.graph.ingested import check_images, data_option

SOURCE = {"name": "folder", "root": "photos"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of which ingest has run."""
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "data/ingest/manifest.parquet": "rows",
        "source.lock.json": "{}",
        "data/code/ingest.json": "code",
        ".reprise/code/ingest.json": "code",
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)
    write("params.yaml", {"source": SOURCE, "train": {"epochs": 1}})
    deps = [{"path": name, "md5": md5(name)} for name in ("data/code/ingest.json", "source.lock.json")]
    entry = {
        "cmd": "run", "deps": deps, "params": {"params.yaml": {"source": SOURCE}},
        "outs": [{"path": "data/ingest", "md5": "0" * 32 + ".dir"}],
    }  # fmt: skip
    write("dvc.lock", {"schema": "2.0", "stages": {"ingest": entry}})
    return tmp_path


def write(name: str, content: object) -> None:
    with Path(name).open("w") as file:
        YAML().dump(content, file)


def md5(name: str) -> str:
    return hashlib.md5(Path(name).read_bytes(), usedforsecurity=False).hexdigest()


def test_data_of_the_present_source_are_looked_at(project: Path) -> None:
    assert data_option(project) == ["--data"]


@pytest.mark.parametrize("changed", ["source.lock.json", ".reprise/code/ingest.json"])
def test_data_of_another_source_or_other_code_say_nothing(project: Path, changed: str) -> None:
    (project / changed).write_text("other")
    assert data_option(project) == []


def test_data_of_other_parameters_say_nothing_nor_do_missing_ones(project: Path) -> None:
    write("params.yaml", {"source": {**SOURCE, "root": "others"}})
    assert data_option(project) == []
    write("params.yaml", {"source": SOURCE})
    assert data_option(project) == ["--data"]
    (project / "data/ingest/manifest.parquet").unlink()
    assert data_option(project) == []


def test_what_was_found_to_fit_is_not_looked_at_again_until_something_changes(project: Path) -> None:
    calls: list[int] = []
    for _ in range(2):
        check_images(project, lambda: calls.append(1))
    assert len(calls) == 1
    (project / "targets.csv").write_text("key,x\n")
    check_images(project, lambda: calls.append(1))
    assert len(calls) == 2
    write("params.yaml", {"source": SOURCE, "train": {"epochs": 2}})

    def refuse() -> None:
        calls.append(1)
        raise RuntimeError("too few images")

    for _ in range(2):  # what was refused is looked at each time
        with pytest.raises(RuntimeError):
            check_images(project, refuse)
    assert len(calls) == 4
