"""`reprise doctor` and `reprise verify` look at shards that lie in a store."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipeline.graph.remotes.stored_shards import problems_of_store, stored_shards
from pipeline.graph.remotes.verification import Verification
from pipeline.graph.running.doctor import WELL, WRONG, _store
from reprise.artifacts.tars.table import FILE, FarTar, write_far
from reprise.config.texts.addresses import parse_address


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose three tars lie in a folder."""
    (tmp_path / "params.yaml").write_text("cache: {far: {attempts: 1}}")
    (tmp_path / "store").mkdir()
    (tmp_path / "data/shards").mkdir(parents=True)
    tars = {f"train-00000{i}.tar": FarTar(100 + i, f"{i}" * 64) for i in range(3)}
    for tar in tars.values():
        (tmp_path / "store" / tar.object).write_bytes(bytes(tar.bytes))
    write_far(tmp_path / "data/shards" / FILE, parse_address(f"file://{tmp_path}/store"), tars)
    return tmp_path


def test_what_is_there_is_well(project: Path) -> None:
    assert problems_of_store(project) == []
    (finding,) = _store(project)
    assert (finding.state, finding.found[:5]) == (WELL, "3 tar")
    assert str(project / "store") in finding.found
    assert list(_store(project / "store")) == []  # a project without far shards


def test_missing_and_shorter_tars_are_named(project: Path) -> None:
    first, second, third = sorted((project / "store").iterdir())
    first.unlink()
    os.truncate(third, 5)
    problems = problems_of_store(project)
    assert [problem.partition(":")[0] for problem in problems] == ["train-000000.tar", "train-000002.tar"]
    assert "has 5 bytes instead of 102" in problems[1]
    assert second.name not in str(problems)
    result = Verification(outputs=3, stored=problems)
    assert not result.passed
    assert "shards in their store: train-000000.tar" in result.lines()[0]
    assert "2 differ" in result.lines()[-1]
    (finding,) = _store(project)
    assert (finding.state, "--force shard" in finding.fix) == (WRONG, True)


def test_a_store_that_is_gone_and_a_table_that_is_spoilt_are_problems_and_no_tracebacks(project: Path) -> None:
    stored = stored_shards(project)
    assert stored is not None
    (project / "params.yaml").write_text("cache: {far: {attempts: 1, read_from: 'http://127.0.0.1:9/x'}}")
    (problem,) = problems_of_store(project)
    assert "cannot be read over the network" in problem
    (finding,) = _store(project)
    assert finding.state == WRONG
    shutil.copy(project / "params.yaml", project / "data/shards" / FILE)
    assert "not readable Parquet" in problems_of_store(project)[0]
    (finding,) = _store(project)
    assert finding.state == WRONG
