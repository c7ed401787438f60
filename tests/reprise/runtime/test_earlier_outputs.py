"""A stage does not read bytes that somebody put in place of what an earlier stage wrote."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from reprise.config.dvc_file import Stage, stages_of
from reprise.config.errors import ObjectError
from reprise.config.params import read_yaml
from reprise.runtime.earlier_outputs import refuse_altered_outputs
from reprise.storage.content_hashes import md5_of_members

GRAPH = """
stages:
  shard:
    cmd: shard
    deps: [images]
    outs: [data/shards, data/page.html]
  mine:
    cmd: mine
    deps: [data/shards/a.tar]
    outs: [data/mine]
  train:
    cmd: train
    deps: [data]
    outs: [runs]
"""
FILES = {"data/shards/a.tar": b"a" * 1000, "data/shards/sub/b.tar": b"b", "data/page.html": b"<html>"}


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Stage]:
    """The stages of a graph of which `shard` has run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    for name, data in FILES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)
    md5 = {name: hashlib.md5(data).hexdigest() for name, data in FILES.items()}
    folder = md5_of_members({name.removeprefix("data/shards/"): md5[name] for name in FILES if "shards" in name})
    outs = "".join(
        f"    - path: {path}\n      hash: md5\n      md5: {name}\n"
        for path, name in (("data/shards", folder), ("data/page.html", md5["data/page.html"]))
    )
    (tmp_path / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  shard:\n    cmd: shard\n    outs:\n{outs}")
    return {stage.name: stage for stage in stages_of(read_yaml("dvc.yaml"), {})}


def look(stages: dict[str, Stage], name: str) -> None:
    refuse_altered_outputs(stages[name], list(stages.values()))


def test_right_outputs_are_read(stages: dict[str, Stage]) -> None:
    for name in stages:
        look(stages, name)


def test_altered_bytes_of_the_same_size_and_time_stop_the_stages_that_read_them(stages: dict[str, Stage]) -> None:
    look(stages, "train")
    path = Path("data/shards/sub/b.tar")
    before = path.stat()
    path.write_bytes(b"B")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    look(stages, "shard")  # which writes them
    for name in ("mine", "train"):  # one reads another file of this output, and one a folder above it
        with pytest.raises(ObjectError, match=r"data/shards: .*\.dir instead of") as refused:
            look(stages, name)
        assert "reprise verify" in str(refused.value)
        assert "page.html" not in refused.value.found


@pytest.mark.parametrize("name", ["data/shards/a.tar", "data/shards/sub/b.tar", "data/page.html"])
def test_missing_and_added_files_stop_it_too(stages: dict[str, Stage], name: str) -> None:
    Path(name).unlink()
    with pytest.raises(ObjectError, match=str(Path(name).parts[1])):
        look(stages, "train")
    Path(name).write_bytes(FILES[name])
    look(stages, "train")
    Path("data/shards/README.md").write_text("DVC leaves it out")
    look(stages, "train")
    Path("data/shards/c.tar").write_bytes(b"")
    with pytest.raises(ObjectError):
        look(stages, "train")


def test_outputs_without_a_record_are_not_judged(stages: dict[str, Stage]) -> None:
    Path("data/shards/a.tar").write_bytes(b"new")
    lock = Path("dvc.lock").read_text()
    Path("dvc.lock").write_text(lock.replace("cmd: shard", "cmd: another"))
    look(stages, "train")
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {}}))
    look(stages, "train")
    Path("dvc.lock").unlink()
    look(stages, "train")
